"""The report's charts: the ages of the runs in progress against the limit, and the outcomes of the selected runs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from html import escape as escape_xml

from prefect_extend_ai.rendering.inert import escape, visible
from prefect_extend_ai.rendering.words import plain
from prefect_extend_ai.sweep.report import Outcome, SweepReport
from prefect_extend_ai.sweep.staleness import AGE_BANDS, age_band

__all__ = ["CARD", "EDGE", "FAINT", "INK", "OTHER", "draw_picture", "text"]

WIDTH = 640
LABELS = 150
"""The left edge of the bars, in pixels."""
BARS = 400
"""The length of the longest bar, in pixels."""
ROW = 26

# A coloured background: an <img> cannot know whether the page around it is dark.
CARD, EDGE, INK, FAINT = "#fbfcfd", "#cfd6dd", "#1c2733", "#5b6875"
YOUNG, STALE = "#7f93a8", "#d98324"
COLOURS = {
    Outcome.CANCELLED: "#2f7d5b",
    Outcome.WOULD_CANCEL: "#2f7d5b",
    Outcome.UNCONFIRMED: "#c0392b",
    Outcome.REFUSED: "#c0392b",
    Outcome.ERROR: "#c0392b",
}
OTHER = "#7f93a8"

_ANY_LIMIT = timedelta(hours=1)
_WITHIN_LIMIT = AGE_BANDS.index(age_band(_ANY_LIMIT, _ANY_LIMIT)) + 1
"""How many age bands lie within the limit; the others are above it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One labelled bar of a chart."""

    label: str
    count: int
    colour: str


def draw_picture(report: SweepReport) -> str:
    """A markdown image of the charts with the numbers as its alternative text; empty without data."""
    charts = [(title, bars) for title, bars in (_ages(report), _outcomes(report)) if bars]
    if not charts:
        return ""
    numbers = ". ".join(f"{title}: " + ", ".join(f"{bar.label} {bar.count}" for bar in bars) for title, bars in charts)
    data = b64encode(_svg(charts).encode()).decode()
    return f"![{escape(numbers, 1000)}](data:image/svg+xml;base64,{data})"


def _ages(report: SweepReport) -> tuple[str, list[Bar]]:
    limit = f" ({report.limit_minutes} min)" if report.limit_minutes is not None else ""
    title = f"Runs in progress by age, in multiples of the limit{limit}"
    if not any(report.ages.values()):
        return title, []
    bands = [(band, YOUNG if place < _WITHIN_LIMIT else STALE) for place, band in enumerate(AGE_BANDS)]
    return title, [Bar(band, report.ages.get(band, 0), colour) for band, colour in bands]


def _outcomes(report: SweepReport) -> tuple[str, list[Bar]]:
    bars = [
        Bar(plain(outcome), report.counts[outcome], COLOURS.get(outcome, OTHER))
        for outcome in Outcome
        if report.counts.get(outcome)
    ]
    return f"Outcome of {report.selected} selected", bars


def _svg(charts: list[tuple[str, list[Bar]]]) -> str:
    parts: list[str] = []
    top = 12
    for title, bars in charts:
        parts += [text(20, top + 18, title, INK, weight=600), *_rows(top + 30, bars)]
        top += 30 + ROW * len(bars) + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" font-size="14">'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{top - 1}" rx="8" fill="{CARD}" stroke="{EDGE}"/>'
        f"{''.join(parts)}</svg>"
    )


def _rows(top: int, bars: list[Bar]) -> Iterable[str]:
    longest = max(bar.count for bar in bars) or 1
    for place, bar in enumerate(bars):
        y = top + ROW * place
        # At least two pixels, so that one run of thousands is visible.
        length = max(round(BARS * bar.count / longest), 2) if bar.count else 0
        yield text(LABELS - 10, y + 17, bar.label, INK if bar.count else FAINT, anchor="end")
        yield f'<rect x="{LABELS}" y="{y + 5}" width="{length}" height="{ROW - 10}" rx="2" fill="{bar.colour}"/>'
        yield text(LABELS + length + 8, y + 17, f"{bar.count:,}", INK if bar.count else FAINT)


def text(x: int, y: int, words: str, colour: str, *, anchor: str = "start", weight: int = 400) -> str:
    """A line of text in a picture."""
    shown = escape_xml(visible(words))
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{shown}</text>'
