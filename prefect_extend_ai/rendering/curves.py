"""The chart of the advice on limits: the share of runs that took longer, against minutes."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence

from prefect_extend_ai.rendering.inert import escape
from prefect_extend_ai.rendering.picture import CARD, EDGE, FAINT, INK, text
from prefect_extend_ai.rendering.words import age
from prefect_extend_ai.sweep.rules.advice import LimitAdvice, ProcessorAdvice

__all__ = ["CURVES", "draw_curves"]

Scale = Callable[[float], float]

CURVES = 5
"""Most curves: those of the busiest processors."""

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 92, 616, 62, 292
"""The card, and the plot on it, in pixels."""
ROW = 22
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0508c", "#8a6d00")
"""Distinguishable for colour-blind people too (after Okabe and Ito)."""
LIMIT = "#1c2733"

SHARES = {0: "all runs", 1: "1 in 10", 2: "1 in 100", 3: "1 in 1,000", 4: "1 in 10,000", 5: "1 in 100,000"}
MINUTES = {
    1: "1 min",
    2: "2",
    5: "5",
    15: "15",
    30: "30",
    60: "1 h",
    120: "2 h",
    240: "4 h",
    480: "8 h",
    1440: "1 d",
    4320: "3 d",
    10080: "7 d",
    43200: "30 d",
}


def draw_curves(advice: LimitAdvice) -> str:
    """A markdown image of the chart with its numbers as the alternative text; empty without finished runs."""
    # A curve of three runs shows little; it is drawn where it is the only one.
    some = [each for each in advice.processors if each.curve]
    drawn = ([each for each in some if not each.has_too_few] or some)[:CURVES]
    if not drawn:
        return ""
    words = "Share of runs that took longer than a number of minutes. " + ". ".join(_in_words(each) for each in drawn)
    data = b64encode(_svg(advice, drawn).encode()).decode()
    return f"![{escape(words, 1500)}](data:image/svg+xml;base64,{data})"


def _in_words(each: ProcessorAdvice) -> str:
    counts = [f"{minutes} min: {count}" for minutes, count in each.would_have_cancelled.items() if count is not None]
    return f"{_name(each)}, {each.finished} finished runs, longer than {', '.join(counts)}"


def _name(each: ProcessorAdvice) -> str:
    return each.processor or "inline configuration"


def _svg(advice: LimitAdvice, drawn: Sequence[ProcessorAdvice]) -> str:
    longest = max(minutes for each in drawn for minutes, _ in each.curve)
    widest = max(longest, advice.limit_minutes * 1.3)
    until = next((each for each in MINUTES if each >= widest), widest)
    fewest = min((share for each in drawn for _, share in each.curve if share), default=1.0)
    # A little beyond the last run of the longest tail.
    decades = max(0.2 - math.log10(fewest), 2.0)

    def x(minutes: float) -> float:
        return LEFT + (RIGHT - LEFT) * max(math.log(max(minutes, 1)), 0) / math.log(until)

    def y(share: float) -> float:
        return TOP + (BOTTOM - TOP) * min(-math.log10(share) / decades, 1) if share else BOTTOM

    height = BOTTOM + 44 + ROW * len(drawn) + 12
    limit = round(x(advice.limit_minutes))
    beyond = "end" if limit > (LEFT + RIGHT) / 2 else "start"
    parts = [
        text(20, 30, "Share of runs that took longer", INK, weight=600),
        *_grid(until, decades, x),
        *(_curve(each, colour, x, y) for each, colour in zip(drawn, COLOURS, strict=False)),
        f'<path stroke="{LIMIT}" stroke-width="1.5" stroke-dasharray="5 4" d="M{limit} {TOP - 8}V{BOTTOM}"/>',
        text(limit + (-6 if beyond == "end" else 6), TOP - 2, f"limit {advice.limit_minutes} min", INK, anchor=beyond),
        *_legend(drawn, BOTTOM + 44),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" font-size="13">'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="{CARD}" stroke="{EDGE}"/>'
        f"{''.join(parts)}</svg>"
    )


def _grid(until: float, decades: float, x: Scale) -> Iterable[str]:
    for decade in range(int(decades) + 1):
        line = round(TOP + (BOTTOM - TOP) * decade / decades)
        yield f'<path stroke="{EDGE}" d="M{LEFT} {line}.5H{RIGHT}"/>'
        yield text(LEFT - 8, line + 4, SHARES[decade], FAINT, anchor="end")
    free = 0
    for minutes, words in MINUTES.items():
        place = round(x(minutes))
        if minutes <= until and place >= free:
            yield f'<path stroke="{EDGE}" d="M{place}.5 {TOP}V{BOTTOM + 4}"/>'
            yield text(place, BOTTOM + 20, words, FAINT, anchor="middle")
            free = place + 34


def _curve(each: ProcessorAdvice, colour: str, x: Scale, y: Scale) -> str:
    points = [(minutes, share) for minutes, share in each.curve if minutes >= 1]
    # One point without any run left: the curve ends on the ground.
    ends = next((place for place, (_, share) in enumerate(points) if not share), len(points))
    path = " ".join(f"{x(minutes):.1f},{y(share):.1f}" for minutes, share in points[: ends + 1])
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2.5" stroke-linejoin="round" points="{path}"/>'


def _legend(drawn: Sequence[ProcessorAdvice], top: int) -> Iterable[str]:
    for place, (each, colour) in enumerate(zip(drawn, COLOURS, strict=False)):
        line = top + ROW * place
        yield f'<rect x="20" y="{line - 5}" width="14" height="4" rx="2" fill="{colour}"/>'
        yield text(42, line, _name(each), INK)
        slow = f"99 % within {age(math.ceil(each.p99_minutes))}" if each.p99_minutes is not None else "tail unknown"
        yield text(RIGHT, line, f"{each.finished:,} runs, {slow}", FAINT, anchor="end")
