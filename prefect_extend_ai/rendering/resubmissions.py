"""Documents that are submitted again, in the report of a sweep and in the record of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prefect_extend_ai.rendering.inert import escape
from prefect_extend_ai.rendering.words import table
from prefect_extend_ai.sweep.report import Cancellation, ChainedRun, PendingResubmission, SweepReport

__all__ = ["chain_of", "resubmission_facts", "resubmission_section", "resubmission_steps", "resubmitted_words"]

ROWS = 50
"""Most documents in the section."""
STEPS = 20
"""Most documents in the next steps."""

_WORDS = {
    "ineligible": "not submitted again",
    "given_up": "given up",
    "unknown": "may have been submitted again",
}


def resubmitted_words(run: Cancellation | PendingResubmission, *, dry_run: bool = False) -> str:
    """What came of submitting a document again, in plain words; empty where it was not to be."""
    if run.resubmitted_as is not None:
        return run.resubmitted_as
    if run.resubmission is not None:
        return _WORDS.get(run.resubmission, run.resubmission)
    if isinstance(run, Cancellation) and not run.is_to_be_submitted:
        return ""
    return "would be" if dry_run else "by the next sweep"


def resubmission_section(report: SweepReport) -> str:
    """Each document that was submitted again, is to be, or cannot be, with its runs; empty without any."""
    runs: list[Cancellation | PendingResubmission] = [
        *(each for each in report.resubmissions if each.is_news),
        *(each for each in report.cancellations if resubmitted_words(each)),
        *(each for each in report.resubmissions if not each.is_news),
    ]
    if not runs:
        return ""
    # Two ids, and no third one, fit beside each other in Prefect's UI.
    listing = table(["Run", "Submitted again as", "What is known"], _rows(report, runs[:ROWS]))
    more = f"\n\nand {len(runs) - ROWS:,} more" if len(runs) > ROWS else ""
    return f"### Submitted again\n\n{listing}{more}"


def _rows(report: SweepReport, runs: Iterable[Cancellation | PendingResubmission]) -> Iterable[Sequence[str]]:
    for each in runs:
        mark = "**" if each.resubmission == "unknown" else ""
        yield (
            f"{escape(each.run_id)}{_before(each)}",
            f"{mark}{escape(resubmitted_words(each, dry_run=report.dry_run))}{mark}",
            "; ".join(part for part in (_number(each), _why(each)) if part),
        )


def _number(each: Cancellation | PendingResubmission) -> str:
    submitted = each.attempt is not None and each.resubmission in (None, "submitted", "unknown")
    return f"number {each.attempt}" if submitted else ""


def _before(each: Cancellation | PendingResubmission) -> str:
    if isinstance(each, PendingResubmission):
        return "" if each.first_run == each.run_id else f" (first run {escape(each.first_run)})"
    return f", after {chain_of(each.chain)}" if each.chain else ""


def _why(each: Cancellation | PendingResubmission) -> str:
    """What is known beside the new run: the next steps say what to do about news."""
    if each.resubmission == "unknown" and (isinstance(each, Cancellation) or each.is_news):
        return "see what to do next"
    said = each.resubmission_reason if isinstance(each, Cancellation) else each.reason
    new_run = f"submitted again as {each.resubmitted_as}"
    for known in ("would not be submitted again: ", "not submitted again: ", "given up: ", new_run):
        said = said.removeprefix(known)
    return escape(said.removeprefix("; "), 600)


def chain_of(chain: Sequence[ChainedRun]) -> str:
    """The earlier runs of a document and how each ended, as markdown; empty for none."""
    return ", ".join(f"{escape(each.run_id)} ({escape(each.status or 'unknown', 40)})" for each in chain)


def resubmission_steps(report: SweepReport) -> list[str]:
    """What to do about documents of which it is not known whether they were submitted again."""
    runs: list[Cancellation | PendingResubmission] = [
        *(each for each in report.cancellations if each.resubmission == "unknown"),
        *(each for each in report.resubmissions if each.is_news),
    ]
    if not runs:
        return []
    documents = "1 document" if len(runs) == 1 else f"{len(runs):,} documents"
    head = f"- **may have been submitted again**: {documents}. Nothing is sent again."
    said = (each.resubmission_reason if isinstance(each, Cancellation) else each.reason for each in runs[:STEPS])
    each_one = (f"  - {escape(each.run_id)}: {escape(why, 600)}" for each, why in zip(runs, said, strict=False))
    more = [f"  - and {len(runs) - STEPS:,} more"] if len(runs) > STEPS else []
    return [head, *each_one, *more]


def resubmission_facts(cancellation: Cancellation) -> list[tuple[str, str]]:
    """What the record of a run says of the other runs of its document; nothing where there are none."""
    facts = []
    if cancellation.chain:
        facts.append(("Earlier runs of the document", chain_of(cancellation.chain)))
    if cancellation.attempt is not None and cancellation.attempt > 1:
        facts.append(("Submitted again before", f"{cancellation.attempt - 1}"))
    if words := resubmitted_words(cancellation):
        facts.append(("Submitted again", "to be, by this sweep or the next" if words == "by the next sweep" else words))
    return facts
