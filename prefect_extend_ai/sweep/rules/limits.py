"""Which limit a run has, and where it comes from. Everything here is pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.rules.holds import same_key
from prefect_extend_ai.sweep.rules.policy import LONGEST_MINUTES, StalePolicy

__all__ = ["OWN_LIMIT_KEY", "Limit", "LimitSource", "ignores_own_limit", "limit_of", "own_limit"]

OWN_LIMIT_KEY = "prefect_max_minutes"
"""Metadata that gives a run a longer limit when it is submitted."""


class LimitSource(enum.StrEnum):
    """Where a limit comes from."""

    PERSON = "person"
    """`max_processing_minutes` of the sweep."""
    PROCESSOR = "processor"
    """`minutes_by_processor` of the policy."""
    LEARNED = "learned"
    """The processor's recent healthy runs."""
    RUN = "run"
    """The run's own metadata, `prefect_max_minutes`."""
    TOTAL = "total"
    """`max_total_minutes` of the policy, since the run's creation."""

    @property
    def in_words(self) -> str:
        """Who set it, as the end of a sentence about the limit; empty for the sweep's own."""
        return _IN_WORDS[self]


_IN_WORDS = {
    LimitSource.PERSON: "",
    LimitSource.PROCESSOR: "by policy, for its processor",
    LimitSource.LEARNED: "learned from its processor's runs",
    LimitSource.RUN: "of the run's own metadata",
    LimitSource.TOTAL: "by policy, since its creation",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """After how many minutes a run is stale, and who says so."""

    minutes: int
    source: LimitSource

    @property
    def span(self) -> timedelta:
        """The same as a time span."""
        return timedelta(minutes=self.minutes)


def limit_of(run: Run, max_processing_minutes: int, policy: StalePolicy, learned_minutes: int | None = None) -> Limit:
    """The limit of a run since its last change.

    What the policy says of its processor wins over what was learned, and that over the sweep's limit. The run's own
    limit can only make it longer.

    Args:
        run: the run, as read.
        max_processing_minutes: the sweep's limit.
        policy: the sweep's policy.
        learned_minutes: the learned limit of its processor; None without one.
    """
    named = policy.minutes_by_processor.get(run.processor_id or "")
    if named is not None:
        limit = Limit(named, LimitSource.PROCESSOR)
    else:
        limit = Limit(max_processing_minutes, LimitSource.PERSON)
        if learned_minutes is not None and learned_minutes > limit.minutes:
            limit = Limit(learned_minutes, LimitSource.LEARNED)
    own = own_limit(run)
    return Limit(own, LimitSource.RUN) if own is not None and own > limit.minutes else limit


def own_limit(run: Run) -> int | None:
    """The run's own limit in whole minutes, rounded up; None without one, or where it is not a number."""
    minutes = [_whole_minutes(value) for value in _own_limits(run)]
    return max((each for each in minutes if each is not None), default=None)


def ignores_own_limit(run: Run) -> bool:
    """Whether the run's own limit is ignored, because it is not a number."""
    return any(value is not None and _whole_minutes(value) is None for value in _own_limits(run))


def _own_limits(run: Run) -> Iterator[object]:
    return (value for key, value in run.metadata.items() if same_key(key, OWN_LIMIT_KEY))


def _whole_minutes(value: object) -> int | None:
    # True and false are numbers to Python. A negative limit is a mistake, and infinity limits nothing.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        return None
    return min(math.ceil(value), LONGEST_MINUTES)
