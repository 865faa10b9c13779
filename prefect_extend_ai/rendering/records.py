"""The record of a run: what happened to it, and its final object, whole."""

from __future__ import annotations

from prefect_extend_ai.rendering.inert import address, escape, fence, link, unmarked
from prefect_extend_ai.rendering.json_text import pretty_json
from prefect_extend_ai.rendering.words import age, instant, plain, table
from prefect_extend_ai.report import Cancellation, Outcome
from prefect_extend_ai.runs import Run

__all__ = ["record_page", "record_title", "shared_record_page"]

_SAID = {
    Outcome.CANCELLED: "This run was cancelled.",
    Outcome.ALREADY_CANCELLED: "Somebody else had cancelled this run first.",
    Outcome.FINISHED_FIRST: "This run ended by itself before a cancel took.",
    Outcome.SPARED: "This run was left alone.",
    Outcome.UNCONFIRMED: "A cancel was accepted, but this run had not ended when it was last read.",
    Outcome.REFUSED: "Extend refused to cancel this run.",
    Outcome.DEFERRED: "This run was left for the next sweep.",
    Outcome.WOULD_CANCEL: "A dry run: this run would have been cancelled.",
}


def record_title(run: Run) -> str:
    """One plain line that names the run and its last status: what the artifact is about."""
    return f"{run.kind.capitalize()} run {unmarked(run.id)}: {unmarked(run.status or 'status unknown', 40)}"


def record_page(run: Run, cancellation: Cancellation) -> str:
    """The record of one run. Its first `json` block is the run object that Extend sent; only its layout is ours."""
    return _record(run, cancellation, "##")


def shared_record_page(pairs: list[tuple[Run, Cancellation]]) -> str:
    """Several records on one page after a list of them, each with a heading and a `json` block of its own, in order."""
    title = f"## {len(pairs)} {'run' if len(pairs) == 1 else 'runs'}"
    index = "\n".join(
        f"{place}. {escape(run.id)}: {plain(cancellation.outcome)}"
        for place, (run, cancellation) in enumerate(pairs, start=1)
    )
    return "\n\n".join([title, index, *(_record(run, cancellation, "###") for run, cancellation in pairs)])


def _record(run: Run, cancellation: Cancellation, heading: str) -> str:
    said = _SAID.get(cancellation.outcome, "")
    return "\n\n".join(
        [
            f"{heading} {run.kind.capitalize()} run {escape(run.id)}",
            f"**{said}** {escape(cancellation.reason, 500)}".strip() if said else escape(cancellation.reason, 500),
            table(["Fact", "Value"], [(name, value or "none") for name, value in _facts(run, cancellation)]),
            fence(pretty_json(run.text)),
        ]
    )


def _facts(run: Run, cancellation: Cancellation) -> list[tuple[str, str]]:
    names = run.file_names
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [
        ("Outcome", plain(cancellation.outcome)),
        ("Status", escape(run.status or "")),
        ("Failure reason", escape(run.failure_reason or "")),
        ("Age at the last look", age(cancellation.age_minutes)),
        ("Processor", escape(run.processor_id or "")),
        ("Created", instant(run.created_at)),
        ("Last change", instant(run.updated_at)),
        ("Read", instant(run.read_at)),
        ("File" if len(names) < 2 else "Files", ", ".join(escape(name) for name in names[:3]) + more),
        ("Dashboard", _dashboard(run.dashboard_url)),
    ]


def _dashboard(url: str | None) -> str:
    return link("open in Extend", url) if address(url) else escape(url or "")
