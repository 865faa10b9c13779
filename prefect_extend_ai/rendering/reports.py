"""The report of a sweep: a page with outcomes and reasons, and a table to search."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from prefect_extend_ai.client.clocks import clock_words
from prefect_extend_ai.rendering.inert import address, escape, link, unmarked
from prefect_extend_ai.rendering.limits import learned_section, limit_warnings, limit_words
from prefect_extend_ai.rendering.pending import FOR_SUPPORT, pending_section, pending_steps, support_message
from prefect_extend_ai.rendering.picture import draw_picture
from prefect_extend_ai.rendering.records import record_fragment
from prefect_extend_ai.rendering.resubmissions import resubmission_section, resubmission_steps, resubmitted_words
from prefect_extend_ai.rendering.strip import strip_section
from prefect_extend_ai.rendering.words import age, instant, plain, table
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.history import PastSweep
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepReport

__all__ = ["report_page", "report_table"]

TABLE_ROWS = 5000
TABLE_CHARACTERS = 900_000
"""Limits of the table artifact: Prefect copies the data of a keyed artifact into an event of at most 1.5 MB."""

RecordUrl = Callable[[UUID], str]
EventsUrl = Callable[[RunKind, str], str]

_ADVICE = {
    Outcome.UNCONFIRMED: "A cancel was sent, and the run had not ended by its deadline; the reason names the "
    "response. The next sweep reads it again; if it is still in progress then, send the message below to Extend's "
    "support.",
    Outcome.REFUSED: "Extend refuses the cancel although the run is still in progress. Send the message below to "
    "Extend's support.",
    Outcome.ERROR: "The outcome of the run is unknown. Fix the cause that the reason names, and run another sweep.",
}
REASONS = 10
"""Most reasons, and most runs for each, in the next steps."""


def report_page(
    report: SweepReport,
    *,
    policy_lines: Sequence[tuple[str, str]] = (),
    record_url: RecordUrl,
    flow_run_url: str | None,
    events_url: EventsUrl = lambda _, __: "",
    history: Sequence[PastSweep] = (),
    rows: int = 100,
) -> str:
    """The page of a sweep: the headline, whether action is required, the next steps, the numbers, charts, and the runs.

    Args:
        report: the sweep's report.
        policy_lines: names and values of the policy it ran with.
        record_url: the address of a record, by the id of its artifact.
        flow_run_url: the address of the flow run; None without one.
        events_url: the address of a run's events, by its kind and id; empty without one.
        history: the last sweeps, oldest first.
        rows: most runs in the table; those that need attention come first.
    """
    sections = [
        f"## {escape(report.headline, 600)}",
        _mark(report),
        _context(report, flow_run_url),
        _warnings(report),
        _next_steps(report),
        pending_section(report),
        f"### Numbers\n\n{table(['What', 'Runs', 'Of'], _numbers(report), number='Runs')}"
        if report.looked_at is not None or report.listed or report.selected
        else "",
        strip_section(history),
        draw_picture(report),
        learned_section(report),
        resubmission_section(report),
        _runs(report, record_url, events_url, rows),
        _rules(policy_lines),
    ]
    return "\n\n".join(section for section in sections if section)


def report_table(report: SweepReport, record_url: RecordUrl) -> list[dict[str, str | int | float]]:
    """A row for each run, those that need attention first. Scalars only, the same keys in each row, limited in size."""
    rows: list[dict[str, str | int | float]] = []
    size = 0
    again = any(resubmitted_words(each) for each in report.cancellations)
    for each in _urgent_first(report.cancellations)[:TABLE_ROWS]:
        row: dict[str, str | int | float] = {
            "run": unmarked(each.run_id),
            "outcome": each.outcome.value,
            **({"submitted_again": unmarked(resubmitted_words(each, dry_run=report.dry_run))} if again else {}),
            "age_minutes": "" if each.age_minutes is None else round(each.age_minutes, 1),
            "limit_minutes": "" if each.limit is None else each.limit.minutes,
            "limit_source": "" if each.limit is None else each.limit.source.value,
            "status": unmarked(each.status or "", 40),
            "reason": unmarked(each.reason),
            "dashboard": address(each.dashboard_url) or "",
            "record": record_url(each.record) if each.record else "",
        }
        size += len(json.dumps(row)) + 2
        if size > TABLE_CHARACTERS:
            break
        rows.append(row)
    return rows


def _mark(report: SweepReport) -> str:
    if report.refusal is not None:
        return "⚠️ **Action required:** a guard refused this sweep, and nothing was cancelled."
    if news := len(report.news):
        which = "1 run" if news == 1 else f"{news:,} runs"
        return f"⚠️ **Action required:** {which} may still be in progress."
    if unknown := len(report.unknown):
        which = "1 document" if unknown == 1 else f"{unknown:,} documents"
        return f"⚠️ **Action required:** {which} may have been submitted again, or not."
    if report.needs_attention:
        return "⚠️ **Action required:** see what to do next."
    if report.limit_minutes is None and (missing := report.counts[Outcome.NOT_FOUND]):
        return f"**Check the ids:** {missing:,} of {report.selected:,} not found in this workspace."
    if report.still_pending:
        return "✓ **No action required.** What is pending was reported by an earlier sweep."
    return "✓ **No action required.**"


def _context(report: SweepReport, flow_run_url: str | None) -> str:
    limit = f"limit {report.limit_minutes} min" if report.limit_minutes is not None else "called by id"
    facts = [
        "dry run, no cancel was sent" if report.dry_run else "",
        f"{report.kind} runs, {limit}",
        f"workspace {escape(report.workspace_id)}" if report.workspace_id else "",
        f"scanned at {instant(report.looked_at)}" if report.looked_at else "",
        link("flow run", flow_run_url) if flow_run_url else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _warnings(report: SweepReport) -> str:
    """Warnings: a clock difference, metadata that looks like a hold under another key, limits without effect."""
    warnings = limit_warnings(report)
    if report.clock_difference_seconds is not None:
        warnings.append(clock_words(report.clock_difference_seconds, report.clock_suspect))
    if count := len(report.looks_held):
        runs = "1 stale run has" if count == 1 else f"{count:,} stale runs have"
        shown = ", ".join(escape(run_id) for run_id in report.looks_held[:3])
        warnings.append(
            f"{runs} metadata that looks like a hold, but not under the hold key of this sweep ({shown}"
            f"{', ...' if count > 3 else ''}). To hold them, set hold_key in the policy to their key."
        )
    if report.missing_protections:
        lacks = "; ".join(f"{escape(name)} ({escape(value)})" for name, value in report.missing_protections.items())
        warnings.append(
            "The policy of this run was given by hand and replaces the deployment's as a whole. The deployment has "
            f"protections that this run lacks: {lacks}."
        )
    return "\n\n".join(f"⚠️ {warning}" for warning in warnings)


def _numbers(report: SweepReport) -> Iterable[Sequence[str]]:
    if report.looked_at is not None or report.listed:
        yield "listed", f"{report.listed:,}", ""
        for why, count in list(report.exempt.items())[:20]:
            yield f"left out: {escape(plain(why))}", f"{count:,}", f"{report.listed:,} listed"
    yield "**selected**", f"**{report.selected:,}**", f"{report.listed:,} listed" if report.listed else ""
    for outcome in Outcome:
        if ended := report.counts.get(outcome):
            yield plain(outcome), f"{ended:,}", f"{report.selected:,} selected"
    if going_on := sum(not each.set_aside for each in report.pending):
        yield "pending from earlier sweeps", f"{going_on:,}", ""
    if set_aside := sum(each.set_aside for each in report.pending):
        yield "set aside", f"{set_aside:,}", ""
    if report.recovered:
        yield "recorded for earlier, interrupted sweeps", f"{len(report.recovered):,}", ""


def _runs(report: SweepReport, record_url: RecordUrl, events_url: EventsUrl, rows: int) -> str:
    if not report.cancellations:
        return ""
    shown = _urgent_first(report.cancellations)[:rows]
    left = len(report.cancellations) - len(shown)
    cells = (
        (
            link(each.run_id, each.dashboard_url),
            _outcome(each),
            # No-break spaces: a narrow column would wrap it into three lines.
            age(each.age_minutes).replace(" ", "\N{NO-BREAK SPACE}"),
            _links(report.kind, each, record_url, events_url),
            "; ".join(part for part in (escape(_reason(each)), limit_words(each.limit)) if part),
        )
        for each in shown
    )
    listing = table(["Run", "Outcome", "Age", "Record", "Reason"], cells, number="Age")
    more = f"\n\nand {left:,} more in the table artifact" if left else ""
    return f"### Runs\n\n{listing}{more}"


def _reason(each: Cancellation) -> str:
    """Why, without what came of its document: the section about these has it."""
    return each.reason.removesuffix(f"; {each.resubmission_reason}") if each.resubmission_reason else each.reason


def _links(kind: RunKind, each: Cancellation, record_url: RecordUrl, events_url: EventsUrl) -> str:
    """Where the run is recorded, at its heading, and what happened to it."""
    found = record_url(each.record) if each.record else ""
    record = link("record", found + record_fragment(kind, each.run_id)) if found else ""
    events = events_url(kind, each.run_id)
    return " · ".join(part for part in (record, link("events", events) if events else "") if part)


def _outcome(each: Cancellation) -> str:
    """The outcome, with the run's status where it adds information (columns are narrow)."""
    mark = "**" if each.outcome.needs_attention else ""
    status = each.status or ""
    more = f" ({escape(status, 40)})" if status and status.lower() not in each.outcome else ""
    return f"{mark}{plain(each.outcome)}{mark}{more}"


def _rules(policy_lines: Sequence[tuple[str, str]]) -> str:
    if not policy_lines:
        return ""
    return f"### Rules\n\n{table(['Rule', 'Value'], [(escape(name), escape(value)) for name, value in policy_lines])}"


def _next_steps(report: SweepReport) -> str:
    if not report.needs_attention:
        return ""
    steps = [f"- **guard**: {escape(report.refusal, 500)}"] if report.refusal is not None else []
    if report.trouble is not None:
        steps.append(f"- **stopped early**: {escape(report.trouble, 500)}")
    if report.unrecorded:
        runs = "1 run" if report.unrecorded == 1 else f"{report.unrecorded:,} runs"
        steps.append(f"- **not recorded**: {runs} that ended. The log says why; the next sweep tries again.")
    steps += [*pending_steps(report), *resubmission_steps(report)]
    for outcome, words in _ADVICE.items():
        of_these = [each for each in report.cancellations if each.outcome is outcome]
        if of_these:
            steps += [f"- **{plain(outcome)}**: {words}", *_reasons(of_these)]
    asked_for = [each for each in report.cancellations if each.outcome in FOR_SUPPORT]
    note = support_message(report, asked_for) if asked_for else ""
    return "\n\n".join(part for part in ["### What to do next", "\n".join(steps), note] if part)


def _reasons(cancellations: list[Cancellation]) -> Iterable[str]:
    ids: dict[str, list[str]] = {}
    for each in cancellations:
        ids.setdefault(each.reason, []).append(each.run_id)
    for reason, run_ids in list(ids.items())[:REASONS]:
        shown = ", ".join(escape(run_id) for run_id in run_ids[:REASONS])
        more = f" and {len(run_ids) - REASONS:,} more" if len(run_ids) > REASONS else ""
        yield f"  - {shown}{more}: {escape(reason, 300)}"
    if len(ids) > REASONS:
        yield f"  - and {len(ids) - REASONS:,} more reasons, in the table below"


def _urgent_first(cancellations: Iterable[Cancellation]) -> list[Cancellation]:
    return sorted(cancellations, key=lambda each: not each.outcome.needs_attention)
