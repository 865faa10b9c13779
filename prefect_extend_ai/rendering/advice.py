"""The page of the advice on limits: one sentence, a chart, a table, and what to put into a policy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from prefect_extend_ai.rendering.curves import CURVES, draw_curves
from prefect_extend_ai.rendering.inert import escape, fence
from prefect_extend_ai.rendering.words import age, instant, table
from prefect_extend_ai.sweep.rules.advice import LimitAdvice, ProcessorAdvice, TotalAdvice, percent

__all__ = ["UNKNOWN", "advice_page", "backtest_cell", "minutes_cell", "suggestion_cell"]

UNKNOWN = "unknown"
ROWS = 50
"""Most processors in a table."""

DURATION = (
    "A duration is the time from a run's creation to its last change. It includes the time in the queue, so it is an "
    "upper bound of how long the run was in progress."
)
HEALTHY = "Healthy runs are those that are PROCESSED and that nobody reviewed or edited."
SUGGESTION = (
    "The suggestion is one and a half times the 99th percentile (p99), rounded up to 5 minutes, and at least 15. It "
    "takes 20 finished runs."
)
TAIL = (
    "more than 1 % of the runs were cancelled. They might have finished, so nobody knows how many healthy runs take "
    "longer than the limit in force."
)
PASTE = (
    "A limit by processor is in force whatever a sweep learns. Without one, a sweep learns longer limits itself, "
    "and never a shorter one."
)


def advice_page(advice: LimitAdvice) -> str:
    """The page: the headline, what it rests on, the chart, the durations, the backtest, a policy to paste."""
    sections = [
        f"## {escape(advice.headline, 600)}",
        _context(advice),
        draw_curves(advice),
        _durations(advice),
        _backtest(advice),
        _paste(advice),
        _how(advice),
    ]
    return "\n\n".join(section for section in sections if section)


def minutes_cell(minutes: float | None) -> str:
    """A duration in minutes, never shorter than it is: `2.4`, `62`; `?` where it is unknown."""
    if minutes is None:
        return "?"
    return f"{math.ceil(minutes * 10) / 10:.1f}" if minutes < 10 else f"{math.ceil(minutes):,}"


def suggestion_cell(each: TotalAdvice) -> str:
    """The suggested limit, or why there is none."""
    if each.suggested_minutes is not None:
        return f"{each.suggested_minutes:,}"
    return "too few" if each.has_too_few else UNKNOWN


def backtest_cell(count: int | None, finished: int) -> str:
    """How many runs a limit would have cancelled, and their share: `12 (0.24 %)`."""
    if count is None:
        return UNKNOWN
    # A no-break space: a narrow column would wrap it into three lines.
    share = percent(count, finished).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{count:,} ({share})" if count else "0"


def _context(advice: LimitAdvice) -> str:
    total = advice.all
    facts = [
        f"read at {instant(advice.read_at)}" if advice.read_at else "",
        f"runs since {instant(advice.since)}" if advice.since else "all runs that Extend lists",
        _beside(total, "failed"),
        _beside(total, "cancelled"),
        _beside(total, "in_progress"),
    ]
    return " · ".join(fact for fact in facts if fact)


def _beside(total: TotalAdvice, name: str) -> str:
    ages = total.ages.get(name)
    if ages is None:
        return ""
    return f"{getattr(total, name):,} {name.replace('_', ' ')} (median {age(ages.median_minutes)})"


def _durations(advice: LimitAdvice) -> str:
    head = ["Processor", "Finished", "Median", "p95", "p99", "Longest", "Limit"]
    rows = [
        (
            name,
            f"{each.finished:,}",
            *map(minutes_cell, (each.median_minutes, each.p95_minutes, each.p99_minutes, each.longest_minutes)),
            f"**{suggestion_cell(each)}**" if each.suggested_minutes is not None else suggestion_cell(each),
        )
        for name, each in _rows(advice)
        if each.finished
    ]
    if not rows:
        return ""
    return f"### How long healthy runs took, and the suggested limit, in minutes\n\n{table(head, rows)}{_more(advice)}"


def _backtest(advice: LimitAdvice) -> str:
    limits = list(advice.all.would_have_cancelled)
    head = ["Processor", *(f"{minutes} min" for minutes in limits)]
    rows = [
        (name, *(backtest_cell(count, each.finished) for count in each.would_have_cancelled.values()))
        for name, each in _rows(advice)
        if each.finished
    ]
    if not rows:
        return ""
    return f"### Healthy runs that a limit would have cancelled\n\n{table(head, rows)}"


def _rows(advice: LimitAdvice) -> Iterator[tuple[str, TotalAdvice]]:
    for each in advice.processors[:ROWS]:
        yield _name(each), each
    if len(advice.processors) > 1:
        yield "**all**", advice.all


def _name(each: ProcessorAdvice) -> str:
    return escape(each.processor) if each.processor is not None else "inline configuration"


def _more(advice: LimitAdvice) -> str:
    more = len(advice.processors) - ROWS
    return f"\n\nand {more:,} more processors" if more > 0 else ""


def _paste(advice: LimitAdvice) -> str:
    minutes = advice.minutes_by_processor
    if not minutes:
        return ""
    policy = json.dumps({"minutes_by_processor": minutes}, indent=2)
    return f"### To put into the policy\n\n{PASTE}\n\n{fence(policy)}"


def _how(advice: LimitAdvice) -> str:
    notes = [DURATION, HEALTHY, SUGGESTION]
    if unknown := [_name(each) for each in advice.processors if each.tail_unknown and each.finished]:
        which = ", ".join(unknown[:CURVES]) + (", ..." if len(unknown) > CURVES else "")
        notes.insert(0, f"**Unknown, ?** ({which}): {TAIL}")
    if advice.not_listed:
        notes.append(f"Extend does not list {advice.kind} runs by status {', '.join(map(escape, advice.not_listed))}.")
    return "### How to read this\n\n" + "\n".join(f"- {note}" for note in notes)
