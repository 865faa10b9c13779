"""The limits of a sweep in words: which one a run had and who set it, and what was learned."""

from __future__ import annotations

from prefect_extend_ai.rendering.inert import escape
from prefect_extend_ai.rendering.words import age, table
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.rules.limits import OWN_LIMIT_KEY, Limit, LimitSource

__all__ = ["learned_section", "limit_warnings", "limit_words"]

ROWS = 50
"""Most learned limits in the section."""

_WORDS = {
    LimitSource.PERSON: "limit {minutes:,} min",
    LimitSource.PROCESSOR: "its processor's limit {minutes:,} min",
    LimitSource.LEARNED: "learned limit {minutes:,} min",
    LimitSource.RUN: "its own limit {minutes:,} min",
    LimitSource.TOTAL: "limit {minutes:,} min since its creation",
}


def limit_words(limit: Limit | None) -> str:
    """The limit that a run has passed, and whose it is: `learned limit 95 min`; empty without one."""
    return "" if limit is None else _WORDS[limit.source].format(minutes=limit.minutes)


def learned_section(report: SweepReport) -> str:
    """The limits that the sweep learned, and how many runs it left out for each; empty without any."""
    if not report.learned_limits:
        return ""
    shown = sorted(report.learned_limits, key=lambda each: (-each.spared, each.processor))
    rows = [
        (
            escape(each.processor),
            f"{each.minutes:,}\N{NO-BREAK SPACE}min",
            f"{each.finished:,}",
            age(each.p99_minutes),
            f"{each.spared:,}",
        )
        for each in shown[:ROWS]
    ]
    head = ["Processor", "Limit", "Finished runs", "99 % took at most", "Left out for it"]
    more = f"\n\nand {len(shown) - ROWS:,} more" if len(shown) > ROWS else ""
    return (
        "### Learned limits\n\n"
        f"These processors took longer than the sweep's limit of {report.limit_minutes} min allows for, in their runs "
        "that finished last. Each has its own longer limit in this sweep, of four times the sweep's at most.\n\n"
        f"{table(head, rows)}{more}"
    )


def limit_warnings(report: SweepReport) -> list[str]:
    """Warnings: limits that could not be learned, and limits of runs that are not numbers."""
    warnings = []
    if report.not_learned is not None:
        problem = escape(report.not_learned, 300)
        warnings.append(f"No limits could be learned, so the limits of the policy held: {problem}")
    if count := len(report.ignored_limits):
        runs = "1 run in progress has" if count == 1 else f"{count:,} runs in progress have"
        shown = ", ".join(escape(run_id) for run_id in report.ignored_limits[:3])
        warnings.append(
            f"{runs} a {escape(OWN_LIMIT_KEY)} in the metadata that is not a number, and it was ignored "
            f"({shown}{', ...' if count > 3 else ''})."
        )
    return warnings
