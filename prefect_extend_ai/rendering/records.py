"""The record of a run: its outcome, and its complete final object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from prefect_extend_ai.rendering.inert import address, escape, fence, link, unmarked, visible
from prefect_extend_ai.rendering.json_text import pretty_json
from prefect_extend_ai.rendering.resubmissions import resubmission_facts
from prefect_extend_ai.rendering.words import age, instant, plain, table
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.report import Cancellation, Outcome

__all__ = ["Whence", "part_pages", "record_fragment", "record_page", "record_title", "shared_record_page"]

PART = 200_000
"""Characters of a final object in one part: less than a megabyte, however they are escaped."""

_ENDINGS = {
    Outcome.CANCELLED: "This run was cancelled.",
    Outcome.ALREADY_CANCELLED: "This run was cancelled before our cancel took effect.",
    Outcome.FINISHED_FIRST: "This run ended before a cancel took effect.",
}
"""How a run ended; only runs with these outcomes are recorded."""


def record_title(run: Run) -> str:
    """One plain line with the run and its last status, as the description of the artifact."""
    return f"{run.kind.capitalize()} run {unmarked(run.id)}: {unmarked(run.status or 'status unknown', 40)}"


@dataclass(frozen=True, slots=True)
class Whence:
    """Where a record comes from, for its links.

    Attributes:
        sweep_url: the address of the flow run; None without one.
        events_url: the address of a run's events, by its kind and id.
    """

    sweep_url: str | None = None
    events_url: Callable[[RunKind, str], str] = lambda _, __: ""


NOWHERE = Whence()


def record_fragment(kind: RunKind, run_id: str) -> str:
    """What to add to the address of a record so that it opens at the heading of a run.

    A text fragment: neither UI of Prefect lets a page name an anchor.
    """
    heading = quote(f"{kind.capitalize()} run {visible(run_id)}", safe="").replace("-", "%2D")
    return f"#:~:text={heading}"


def record_page(run: Run, cancellation: Cancellation, parts: Sequence[str] = (), *, whence: Whence = NOWHERE) -> str:
    """The record of one run. Its first `json` block is the run object that Extend sent, indented.

    Args:
        run: the run as it was last read.
        cancellation: its outcome and reason.
        parts: links to the object, as markdown, where it is stored in `part_pages`.
        whence: the sweep that it comes from.
    """
    if not parts:
        return _record(run, cancellation, "##", whence)
    said = f"The final object is too large for one artifact. It is stored in {len(parts)}, in this order. Each holds"
    places = "\n".join(f"{place}. {part}" for place, part in enumerate(parts, start=1))
    facts = _facts_of(run, cancellation, "##", whence)
    return f"{facts}\n\n{said} a JSON string; joined, they are the object.\n\n{places}"


def part_pages(run: Run) -> Iterator[str]:
    """The run object that Extend sent in pages of about `PART` characters.

    Each has one `text` block with a JSON string; the strings joined together are the object's JSON.
    """
    parts = range(0, len(run.text), PART)
    for place, start in enumerate(parts, start=1):
        title = f"## {run.kind.capitalize()} run {escape(run.id)}, part {place} of {len(parts)}"
        string = json.dumps(run.text[start : start + PART], ensure_ascii=False)
        yield f"{title}\n\n{fence(pretty_json(string), 'text')}"


def shared_record_page(pairs: list[tuple[Run, Cancellation]], *, whence: Whence = NOWHERE) -> str:
    """Several records on one page: a list of the runs, then a heading and a `json` block for each, in order."""
    title = f"## {len(pairs)} {'run' if len(pairs) == 1 else 'runs'}"
    index = "\n".join(
        f"{place}. {escape(run.id)}: {plain(cancellation.outcome)}"
        for place, (run, cancellation) in enumerate(pairs, start=1)
    )
    return "\n\n".join([title, index, *(_record(run, cancellation, "###", whence) for run, cancellation in pairs)])


def _record(run: Run, cancellation: Cancellation, heading: str, whence: Whence) -> str:
    return f"{_facts_of(run, cancellation, heading, whence)}\n\n{fence(pretty_json(run.text))}"


def _facts_of(run: Run, cancellation: Cancellation, heading: str, whence: Whence) -> str:
    return "\n\n".join(
        [
            f"{heading} {run.kind.capitalize()} run {escape(run.id)}",
            f"**{_ENDINGS.get(cancellation.outcome, plain(cancellation.outcome))}** {escape(cancellation.reason, 500)}",
            table(["Fact", "Value"], [(name, value or "none") for name, value in _facts(run, cancellation, whence)]),
        ]
    )


def _facts(run: Run, cancellation: Cancellation, whence: Whence) -> list[tuple[str, str]]:
    names = run.file_names
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    events = whence.events_url(run.kind, run.id)
    # What concerns the sweep is left out where nothing is known of it: a run that was named has no limit.
    of_sweep = [
        ("Why", escape(cancellation.why_stale or "")),
        ("Last change before the cancel", instant(cancellation.last_change)),
        ("Sweep", link("flow run", whence.sweep_url) if whence.sweep_url else ""),
        ("Events", link("events of this run", events) if events else ""),
    ]
    return [
        ("Outcome", plain(cancellation.outcome)),
        *((name, value) for name, value in of_sweep if value),
        ("Status", escape(run.status or "")),
        ("Failure reason", escape(run.failure_reason or "")),
        ("Age at the last read", age(cancellation.age_minutes)),
        ("Processor", escape(run.processor_id or "")),
        ("Created", instant(run.created_at)),
        ("Last change", instant(run.updated_at)),
        ("Read", instant(run.read_at)),
        ("File" if len(names) < 2 else "Files", ", ".join(escape(name) for name in names[:3]) + more),
        ("Dashboard", _dashboard(run.dashboard_url)),
        *resubmission_facts(cancellation),
    ]


def _dashboard(url: str | None) -> str:
    return link("open in Extend", url) if address(url) else escape(url or "")
