"""The last sweeps as one strip of bars, so that a person sees whether it gets worse."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from prefect_extend_ai.rendering.inert import escape
from prefect_extend_ai.rendering.picture import CARD, EDGE, FAINT, INK, YOUNG, text
from prefect_extend_ai.sweep.history import SWEEPS, PastSweep

__all__ = ["strip_section"]

WIDTH, HEIGHT = 640, 150
LEFT, BASE, TALLEST = 44, 104, 64
"""The left edge of the first bar, the line that bars stand on, and the height of the tallest, in pixels."""
STEP, BAR = 19, 13

CANCELLED, FAILED, ALARM = "#2f7d5b", "#c0392b", "#a93226"


def strip_section(sweeps: Sequence[PastSweep]) -> str:
    """A heading and the strip, with its numbers as the alternative text; empty for a single sweep."""
    sweeps = sweeps[-SWEEPS:]
    if len(sweeps) < 2:
        return ""
    stale, cancelled, failed = (
        sum(getattr(each, name) for each in sweeps) for name in ("stale", "cancelled", "failed")
    )
    alarms = sum(each.alarm for each in sweeps)
    words = (
        f"{stale:,} stale, {cancelled:,} cancelled, {failed:,} failed in {len(sweeps)} sweeps from "
        f"{_moment(sweeps[0].at)} to {_moment(sweeps[-1].at)} UTC; {alarms} of the sweeps ended Failed"
    )
    data = b64encode(_svg(sweeps).encode()).decode()
    return f"### Last {len(sweeps)} sweeps\n\n![{escape(words, 400)}](data:image/svg+xml;base64,{data})"


def _svg(sweeps: Sequence[PastSweep]) -> str:
    most = max(max(each.stale, each.cancelled + each.failed) for each in sweeps) or 1
    # One path for each colour: a report is written at each sweep, and thirty bars as elements would be half of it.
    layers = [
        (YOUNG, _bars((0, _height(each.stale, most)) for each in sweeps)),
        (CANCELLED, _bars((0, _height(each.cancelled, most)) for each in sweeps)),
        (FAILED, _bars((_height(each.cancelled, most), _height(each.failed, most)) for each in sweeps)),
        (ALARM, _marks(each.alarm for each in sweeps)),
    ]
    last = LEFT + STEP * (len(sweeps) - 1) + BAR
    parts = [
        *(f'<path fill="{colour}" d="{path}"/>' for colour, path in layers if path),
        f'<path stroke="{EDGE}" d="M{LEFT} {BASE}.5H{last}"/>',
        text(LEFT - 6, BASE - TALLEST + 10, f"{most:,}", FAINT, anchor="end"),
        text(LEFT - 6, BASE, "0", FAINT, anchor="end"),
        text(LEFT, 134, _moment(sweeps[0].at), FAINT),
        text(max(last, 240), 134, _moment(sweeps[-1].at), FAINT, anchor="end"),
        *_legend(),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui,sans-serif" font-size="13">'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" fill="{CARD}" stroke="{EDGE}"/>'
        f"{''.join(parts)}</svg>"
    )


def _legend() -> Iterable[str]:
    entries = [("cancelled", CANCELLED), ("failed", FAILED), ("other stale", YOUNG), ("▾ sweep ended Failed", None)]
    x = LEFT
    for words, colour in entries:
        if colour:
            yield f'<rect x="{x}" y="13" width="10" height="10" rx="2" fill="{colour}"/>'
            x += 15
        yield text(x, 22, words, INK if colour else ALARM)
        x += 8 * len(words) + 18


def _bars(heights: Iterable[tuple[int, int]]) -> str:
    """A bar for each sweep, of this height above that; none where it is 0."""
    return "".join(
        f"M{LEFT + STEP * place} {BASE - above}h{BAR}v-{height}h-{BAR}z"
        for place, (above, height) in enumerate(heights)
        if height
    )


def _marks(alarms: Iterable[bool]) -> str:
    return "".join(f"M{LEFT + STEP * place} {BASE + 4}h{BAR}l-6.5 9z" for place, on in enumerate(alarms) if on)


def _height(count: int, most: int) -> int:
    """At least two pixels, so that one run of thousands is visible."""
    return max(round(TALLEST * count / most), 2) if count else 0


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%d %b %H:%M")
