"""Take a run out of a shared record: the page without its section, everything else to the letter."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

__all__ = ["without_runs"]

_FENCE = re.compile(r"(`{3,})json")


def without_runs(page: str, places: Collection[int]) -> str:
    """A page of `shared_record_page` without the runs at these places, counted from 0.

    Raises ValueError for a page that is not of that form: then nothing of it may be thrown away.
    """
    head, *sections = _sections(page)
    title, _, index = head.strip().partition("\n\n")
    rows = index.splitlines()
    if not title.startswith("## ") or not sections or len(rows) != len(sections):
        raise ValueError("not a shared record: its list of runs and its sections differ")
    if not set(places) <= set(range(len(sections))):
        raise ValueError("it has no run at that place")
    kept = [place for place in range(len(sections)) if place not in places]
    lines = [f"{new}. {rows[place].partition('. ')[2]}" for new, place in enumerate(kept, start=1)]
    count = f"## {len(kept)} {'run' if len(kept) == 1 else 'runs'}"
    return "\n\n".join([count, "\n".join(lines), *(sections[place].strip("\n") for place in kept)])


def _sections(page: str) -> Iterator[str]:
    """What stands before the first heading of a run, and then each heading with what follows it."""
    part: list[str] = []
    closes: str | None = None
    for line in page.split("\n"):
        # What a document says is inside a fence that it cannot close, or escaped: it is never a heading.
        if closes is None and line.startswith("### "):
            yield "\n".join(part)
            part = []
        part.append(line)
        if closes is not None:
            closes = None if line == closes else closes
        elif (fence := _FENCE.fullmatch(line)) is not None:
            closes = fence[1]
    yield "\n".join(part)
