"""Which limit is right: what an account's own history says of it. Reading aside, everything here is pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.rules.durations import LEAST_FINISHED, P50, P95, P99, Durations
from prefect_extend_ai.sweep.rules.past import PastRuns, Tally, read_past
from prefect_extend_ai.sweep.rules.policy import DEFAULT_POLICY, LONGEST_MINUTES, StalePolicy
from prefect_extend_ai.sweep.rules.staleness import check_limit

__all__ = ["BACKTEST", "MOST_RUNS", "Ages", "LimitAdvice", "ProcessorAdvice", "TotalAdvice", "advice_from", "advise"]

BACKTEST = (15, 30, 60, 120, 240)
"""Limits, in minutes, that every backtest tries."""

MOST_RUNS = 100_000
"""Runs that can be asked for: a hundred pages."""

UNKNOWN_FROM = Fraction(1, 100)
"""The share of cancelled runs beyond which nobody knows how long the slowest healthy runs take."""

CURVE_STEPS = 12
"""Points of a curve for each doubling of the minutes."""


class Ages(BaseModel):
    """How old runs were that did not finish: from their creation to their end, or to now."""

    model_config = ConfigDict(frozen=True)

    median_minutes: float = Field(description="The median.")
    longest_minutes: float = Field(description="The oldest.")


class TotalAdvice(BaseModel):
    """What the runs of all processors say."""

    model_config = ConfigDict(frozen=True)

    finished: int = Field(description="How many runs finished: PROCESSED, neither reviewed nor edited.")
    in_progress: int = Field(description="How many runs are in progress.")
    failed: int = Field(description="How many runs failed in the same time.")
    cancelled: int = Field(description="How many runs were cancelled in the same time, by anybody.")
    median_minutes: float | None = Field(description="The median of the durations; None where unknown.")
    p95_minutes: float | None = Field(description="The 95th percentile; None where unknown.")
    p99_minutes: float | None = Field(description="The 99th percentile; None where unknown.")
    longest_minutes: float | None = Field(description="The longest; None where unknown.")
    suggested_minutes: int | None = Field(
        description="One and a half times p99, rounded up to 5, at least 15. None for fewer than 20 finished runs, and "
        "where the tail is unknown."
    )
    would_have_cancelled: dict[int, int | None] = Field(
        description="How many finished runs each limit would have cancelled, by its minutes; None where unknown."
    )
    limit_minutes: int = Field(description="The limit in force.")
    would_have_cancelled_now: int | None = Field(
        description="How many finished runs the limit in force would have cancelled; None where unknown."
    )
    tail_unknown: bool = Field(
        description="More than 1 % of the runs were cancelled and might have finished, so that nobody knows how many "
        "healthy runs take longer than the limit in force."
    )
    ages: dict[str, Ages | None] = Field(
        default={}, description="Ages of the runs that are in_progress, failed or cancelled; None without any."
    )
    curve: list[tuple[float, float]] = Field(
        default=[], exclude=True, repr=False, description="Minutes, and the share of finished runs that took longer."
    )

    @property
    def has_too_few(self) -> bool:
        """Whether too few runs finished to suggest anything."""
        return self.finished < LEAST_FINISHED


class ProcessorAdvice(TotalAdvice):
    """What the runs of one processor say."""

    processor: str | None = Field(description="The processor's id; None for runs with an inline configuration.")


class LimitAdvice(BaseModel):
    """What an account's own history says of limits: the result of the flow `advise_limits`."""

    model_config = ConfigDict(frozen=True)

    kind: RunKind = Field(description="The kind of run.")
    read_at: datetime | None = Field(description="When the runs were read, by Extend's clock.")
    since: datetime | None = Field(
        default=None, description="The last change of the oldest run that was read; None where all were read."
    )
    limit_minutes: int = Field(description="The limit that is asked about: max_processing_minutes.")
    not_listed: list[str] = Field(default=[], description="Statuses that Extend does not list for this kind.")
    processors: list[ProcessorAdvice] = Field(description="Each processor, the busiest first.")
    all: TotalAdvice = Field(description="All processors together.")

    @property
    def minutes_by_processor(self) -> dict[str, int]:
        """The suggestions that differ from the limit asked about, to be put into a policy."""
        return {
            each.processor: each.suggested_minutes
            for each in self.processors
            if each.processor is not None and each.suggested_minutes not in (None, self.limit_minutes)
        }

    @property
    def headline(self) -> str:
        """One sentence: what the limit in force would have cancelled."""
        runs = f"{self.kind} run{'' if self.all.finished == 1 else 's'}"
        if not self.all.finished:
            return f"No {self.kind} run has finished: nothing can be said of limits"
        if self.all.has_too_few:
            return f"Only {self.all.finished} {runs} finished: too few to suggest a limit"
        which = f"the last {self.all.finished:,} healthy {runs}"
        own = len({each.limit_minutes for each in self.processors}) > 1
        limits = "Your limits" if own else f"A limit of {self.all.limit_minutes:,} minutes"
        count = self.all.would_have_cancelled_now
        if count is None:
            share = percent(self.all.cancelled, self.all.cancelled + self.all.finished)
            return (
                f"How many healthy runs take longer than {self.all.limit_minutes:,} minutes is unknown: {share} of the "
                f"{self.kind} runs were cancelled, and might have finished"
            )
        if not count:
            return f"{limits} would have cancelled none of {which}"
        return f"{limits} would have cancelled {count:,} of {which} ({percent(count, self.all.finished)})"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, as `prefect-extend-ai advise --json` prints them."""
        facts = self.model_dump(mode="json")
        return facts | {"processors": [{"processor": each["processor"], **each} for each in facts["processors"]]}


def percent(part: int, whole: int) -> str:
    """A share for people: `0.24 %`, `12 %`."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 10 or not share else f"{share:.2g} %"


async def advise(
    client: ExtendClient,
    kind: RunKind,
    *,
    max_runs: int = 5000,
    max_processing_minutes: int = 60,
    policy: StalePolicy = DEFAULT_POLICY,
) -> LimitAdvice:
    """Read the runs that finished last, and say what they tell of limits.

    Args:
        client: an open client.
        kind: the kind of run.
        max_runs: how many finished runs are read at most.
        max_processing_minutes: the limit that is asked about.
        policy: whose `minutes_by_processor` are in force.

    Raises:
        ExtendInputError: the limit or the number of runs is out of range; nothing was sent.
        ExtendError: the runs could not be listed.
    """
    check_limit(max_processing_minutes)
    if not 1 <= max_runs <= MOST_RUNS:
        raise ExtendInputError(f"the number of runs is {max_runs}: take at least 1, and {MOST_RUNS} at most")
    return advice_from(await read_past(client, kind, max_runs), max_processing_minutes, policy)


def advice_from(past: PastRuns, max_processing_minutes: int, policy: StalePolicy = DEFAULT_POLICY) -> LimitAdvice:
    """What these runs tell of limits; takes what `advise` does."""
    backtest = sorted({*BACKTEST, max_processing_minutes})
    processors = [
        ProcessorAdvice(
            processor=processor,
            **_facts(tally, backtest, policy.minutes_by_processor.get(processor or "", max_processing_minutes)),
        )
        for processor, tally in past.by_processor.items()
    ]
    processors.sort(key=lambda each: (-each.finished, each.processor or ""))
    total = TotalAdvice(**_facts(past.total, backtest, max_processing_minutes))
    if not total.tail_unknown:
        # Each processor by the limit that is in force for it.
        now = sum(
            Durations(tally.finished).longer_than(
                policy.minutes_by_processor.get(processor or "", max_processing_minutes)
            )
            for processor, tally in past.by_processor.items()
        )
        total = total.model_copy(update={"would_have_cancelled_now": now})
    return LimitAdvice(
        kind=past.kind,
        read_at=past.read_at,
        since=past.since,
        limit_minutes=max_processing_minutes,
        not_listed=past.not_listed,
        processors=processors,
        all=total,
    )


def _facts(tally: Tally, backtest: Sequence[int], limit: int) -> dict[str, Any]:
    durations = Durations(tally.finished)
    share = Fraction(len(tally.cancelled), tally.ended or 1)
    unknown = share > UNKNOWN_FROM

    def quantile(of: Fraction) -> float | None:
        # How long these would have taken is not known: the quantile may be one of theirs.
        return _minutes(durations.quantile(of)) if share <= 1 - of else None

    def cancelled_by(minutes: int) -> int | None:
        return None if unknown and minutes >= limit else durations.longer_than(minutes)

    return {
        "finished": len(durations),
        "in_progress": len(tally.in_progress),
        "failed": len(tally.failed),
        "cancelled": len(tally.cancelled),
        "median_minutes": quantile(P50),
        "p95_minutes": quantile(P95),
        "p99_minutes": quantile(P99),
        "longest_minutes": None if unknown else _minutes(durations.longest),
        "suggested_minutes": None if unknown else durations.suggestion(),
        "would_have_cancelled": {minutes: cancelled_by(minutes) for minutes in backtest},
        "limit_minutes": limit,
        "would_have_cancelled_now": cancelled_by(limit),
        "tail_unknown": unknown,
        "ages": {name: _ages(getattr(tally, name)) for name in ("in_progress", "failed", "cancelled")},
        "curve": _curve(durations, limit if unknown else LONGEST_MINUTES),
    }


def _curve(durations: Durations, until: int) -> list[tuple[float, float]]:
    """The share of runs that took longer than a number of minutes, in even steps of a logarithmic scale, to its end."""
    if not len(durations):
        return []
    longest = min(_minutes(durations.longest) or 0.0, until)
    steps = max(math.ceil(CURVE_STEPS * math.log2(max(longest, 1))), 0) + CURVE_STEPS + 1
    grid = [2 ** (step / CURVE_STEPS - 1) for step in range(steps)]
    return [
        (round(minutes, 3), durations.longer_than(minutes) / len(durations)) for minutes in grid if minutes <= until
    ]


def _ages(spans: Sequence[timedelta]) -> Ages | None:
    if not spans:
        return None
    ages = Durations(spans)
    return Ages(median_minutes=_minutes(ages.quantile(P50)) or 0.0, longest_minutes=_minutes(ages.longest) or 0.0)


def _minutes(span: timedelta | None) -> float | None:
    return None if span is None else round(span / timedelta(minutes=1), 3)
