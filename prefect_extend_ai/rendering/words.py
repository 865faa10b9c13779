"""Formatting shared by all pages: ages, timestamps, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from prefect_extend_ai.runs import duration

__all__ = ["age", "instant", "plain", "table"]


def age(minutes: float | None) -> str:
    """An age as text; empty where unknown."""
    return "" if minutes is None else duration(minutes * 60)


def instant(moment: datetime | None) -> str:
    """`2026-03-01 09:30:05 UTC`; empty where unknown."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def plain(name: str) -> str:
    """An identifier (`too_young`) as words."""
    return name.replace("_", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, number: str | None = None) -> str:
    """A markdown table; the cells are markdown already. The column titled `number` is right-aligned."""
    rule = ["---:" if title == number else "---" for title in head]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
