"""The report's chart: the ages of the runs in progress against the limit."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from datetime import timedelta
from html import escape as escape_xml

from prefect_extend_ai.rendering.inert import escape, visible
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.rules.staleness import AGE_BANDS, age_band

__all__ = ["CARD", "EDGE", "FAINT", "INK", "YOUNG", "draw_picture", "text"]

WIDTH = 640
LABELS = 150
"""The left edge of the bars, in pixels."""
BARS = 400
"""The length of the longest bar, in pixels."""
ROW = 26

# A coloured background: an <img> cannot know whether the page around it is dark.
CARD, EDGE, INK, FAINT = "#fbfcfd", "#cfd6dd", "#1c2733", "#5b6875"
YOUNG, STALE = "#7f93a8", "#d98324"
_ANY_LIMIT = timedelta(hours=1)
_WITHIN_LIMIT = AGE_BANDS.index(age_band(_ANY_LIMIT, _ANY_LIMIT)) + 1
"""How many age bands lie within the limit; the others are above it."""


def draw_picture(report: SweepReport) -> str:
    """A markdown image of the chart with the numbers as its alternative text; empty without runs in progress."""
    if not any(report.ages.values()):
        return ""
    limit = f" ({report.limit_minutes} min)" if report.limit_minutes is not None else ""
    title = f"Runs in progress by age, in multiples of the limit{limit}"
    counts = {band: report.ages.get(band, 0) for band in AGE_BANDS}
    numbers = f"{title}: " + ", ".join(f"{band} {count}" for band, count in counts.items())
    data = b64encode(_svg(title, counts).encode()).decode()
    return f"![{escape(numbers, 1000)}](data:image/svg+xml;base64,{data})"


def _svg(title: str, counts: dict[str, int]) -> str:
    height = 42 + ROW * len(counts) + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" font-size="14">'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="{CARD}" stroke="{EDGE}"/>'
        f"{text(20, 30, title, INK, weight=600)}{''.join(_rows(42, counts))}</svg>"
    )


def _rows(top: int, counts: dict[str, int]) -> Iterable[str]:
    longest = max(counts.values())
    for place, (band, count) in enumerate(counts.items()):
        y = top + ROW * place
        # At least two pixels, so that one run of thousands is visible.
        length = max(round(BARS * count / longest), 2) if count else 0
        ink, colour = INK if count else FAINT, YOUNG if place < _WITHIN_LIMIT else STALE
        yield text(LABELS - 10, y + 17, band, ink, anchor="end")
        yield f'<rect x="{LABELS}" y="{y + 5}" width="{length}" height="{ROW - 10}" rx="2" fill="{colour}"/>'
        yield text(LABELS + length + 8, y + 17, f"{count:,}", ink)


def text(x: int, y: int, words: str, colour: str, *, anchor: str = "start", weight: int = 400) -> str:
    """A line of text in a picture."""
    shown = escape_xml(visible(words))
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{shown}</text>'
