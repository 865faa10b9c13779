"""Which runs are stale, and which are exempt and why.

Everything here is pure: runs, limits and the time come in, a decision comes out.
"""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import Protocol

from prefect_extend_ai.client.clocks import CLOCK_GRAIN
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import PROCESSING, Run, RunKind
from prefect_extend_ai.sweep.rules.holds import is_held
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource, limit_of
from prefect_extend_ai.sweep.rules.policy import DEFAULT_POLICY, LONGEST_MINUTES, StalePolicy

__all__ = [
    "AGE_BANDS",
    "DEFAULT_POLICY",
    "LONGEST_MINUTES",
    "Exempt",
    "StalePolicy",
    "age_band",
    "assess",
    "check_filters",
    "check_limit",
    "describe_limit",
    "held_words",
    "is_overdue",
    "limit_passed",
    "shortest_limit",
    "skip_reason",
    "skip_reason_when_named",
]


class Exempt(enum.StrEnum):
    """Why a listed run is left alone."""

    TOO_YOUNG = "too_young"
    HELD = "held"
    EXCEPT_RUN = "except_run"
    EXCEPT_PROCESSOR = "except_processor"
    OTHER_PROCESSOR = "other_processor"
    OTHER_FILE = "other_file"
    USUAL_FOR_PROCESSOR = "usual_for_processor"
    OTHER_STATUS = "other_status"
    NO_TIMESTAMP = "no_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    UNREADABLE = "unreadable"


LEFT_OUT = frozenset(
    {Exempt.HELD, Exempt.EXCEPT_RUN, Exempt.EXCEPT_PROCESSOR, Exempt.OTHER_PROCESSOR, Exempt.OTHER_FILE}
)
"""Why a run is left alone that is over its limit."""


class Listed(Protocol):
    """A run as it was listed: its times, and the learned limit of its processor."""

    @property
    def updated_at(self) -> datetime | None: ...
    @property
    def created_at(self) -> datetime | None: ...
    @property
    def learned_minutes(self) -> int | None: ...


_WORDS = {
    Exempt.OTHER_STATUS: "its status is {run.status}, which cannot be cancelled",
    Exempt.TOO_YOUNG: "it changed since it was listed and is no longer stale",
    Exempt.USUAL_FOR_PROCESSOR: "usual for its processor, whose learned limit is longer",
    Exempt.EXCEPT_RUN: "except_runs names it",
    Exempt.HELD: "held: its metadata has {policy.hold_key}",
    Exempt.NO_TIMESTAMP: "it no longer says when it last changed",
    Exempt.FUTURE_TIMESTAMP: "its times lie in the future",
    Exempt.UNREADABLE: "its metadata or its processor cannot be read, so it may be held",
}


def assess(
    run: Run,
    *,
    now: datetime,
    max_processing_minutes: int,
    policy: StalePolicy,
    updated_at: datetime | None = None,
    created_at: datetime | None = None,
    learned_minutes: int | None = None,
) -> Exempt | None:
    """Why `run` must be left alone, or None when it is stale.

    Args:
        run: the run as last read.
        now: when it was read, by the earlier of Extend's clock and ours.
        max_processing_minutes: minutes since the last change after which a run is stale.
        policy: the rest of the rules.
        updated_at: the last change by the listing, for kinds whose single read does not have it.
        created_at: the creation, likewise.
        learned_minutes: the learned limit of the run's processor; None without one.
    """
    if run.status != PROCESSING:
        return Exempt.OTHER_STATUS
    if not run.is_readable:
        return Exempt.UNREADABLE
    updated_at = run.updated_at or updated_at
    if updated_at is None:
        return Exempt.NO_TIMESTAMP
    created_at = run.created_at or created_at
    # The run's times are Extend's, so the future is what lies ahead of its clock; ours may just be behind it.
    if max(updated_at, created_at or updated_at) - (run.date or now) > CLOCK_GRAIN:
        return Exempt.FUTURE_TIMESTAMP
    if created_at is not None and created_at - updated_at > CLOCK_GRAIN:
        return Exempt.UNREADABLE  # changed before it was there: neither time can be believed
    unchanged = now - updated_at
    stale = unchanged > limit_of(run, max_processing_minutes, policy, learned_minutes).span
    if policy.max_total_minutes is not None and created_at is not None:
        stale = stale or now - created_at > timedelta(minutes=policy.max_total_minutes)
    if stale:
        return _left_out(run, policy)
    is_usual = unchanged > limit_of(run, max_processing_minutes, policy).span
    return Exempt.USUAL_FOR_PROCESSOR if is_usual else Exempt.TOO_YOUNG


def limit_passed(run: Run, now: datetime, max_processing_minutes: int, policy: StalePolicy) -> Limit:
    """The limit that a stale run has passed: the one since its last change, or else the total one."""
    limit = limit_of(run, max_processing_minutes, policy)
    by_change = run.updated_at is not None and now - run.updated_at > limit.span
    if by_change or policy.max_total_minutes is None:
        return limit
    return Limit(policy.max_total_minutes, LimitSource.TOTAL)


def is_overdue(run: Run, now: datetime, max_processing_minutes: int, policy: StalePolicy) -> bool:
    """Whether a listed run is over its limit, whichever runs the policy selects or leaves out."""
    exempt = assess(run, now=now, max_processing_minutes=max_processing_minutes, policy=policy)
    return exempt is None or exempt in LEFT_OUT


def _left_out(run: Run, policy: StalePolicy) -> Exempt | None:
    """Why `policy` leaves a run alone that is old enough."""
    if run.id in policy.except_runs:
        return Exempt.EXCEPT_RUN
    if run.processor_id in policy.except_processors:
        return Exempt.EXCEPT_PROCESSOR
    if policy.only_processors and run.processor_id not in policy.only_processors:
        return Exempt.OTHER_PROCESSOR
    if not _file_matches(run, policy.file_name_contains):
        return Exempt.OTHER_FILE
    if is_held(run, policy):
        return Exempt.HELD
    return None


def skip_reason(run: Run, listed: Listed, max_processing_minutes: int, policy: StalePolicy) -> str | None:
    """Why a run that was listed as stale must not be cancelled as just read; None where it still must.

    Kinds whose single read has no times are judged by those of the listing: the check is then of the status.
    """
    if run.read_at is None:
        return "the response to the check had no Date header, so its age is not known"
    exempt = assess(
        run,
        now=run.read_at,
        max_processing_minutes=max_processing_minutes,
        policy=policy,
        updated_at=None if run.kind.dated else listed.updated_at,
        created_at=None if run.kind.dated else listed.created_at,
        learned_minutes=listed.learned_minutes,
    )
    return None if exempt is None else _WORDS.get(exempt, exempt.replace("_", " ")).format(run=run, policy=policy)


def held_words(policy: StalePolicy) -> str:
    """The skip reason of a held run."""
    return _WORDS[Exempt.HELD].format(policy=policy)


def skip_reason_when_named(run: Run, policy: StalePolicy) -> str | None:
    """Why a run that somebody named must not be cancelled, whatever its age; None where it may."""
    if run.status not in run.kind.cancellable:
        return _WORDS[Exempt.OTHER_STATUS].format(run=run)
    if not run.is_readable:
        return _WORDS[Exempt.UNREADABLE]
    if run.id in policy.except_runs:
        return _WORDS[Exempt.EXCEPT_RUN]
    return held_words(policy) if is_held(run, policy) else None


def shortest_limit(max_processing_minutes: int, policy: StalePolicy) -> timedelta:
    """The shortest limit that any processor has: a listing by last change may end at the first younger run."""
    return timedelta(minutes=min([max_processing_minutes, *policy.minutes_by_processor.values()]))


def check_filters(kind: RunKind, policy: StalePolicy) -> None:
    """Raise ExtendInputError where `policy` filters by something that listings of this kind do not know.

    Extend ignores a parameter that it does not know (vendor's CLI), so such a filter would come to mean "all".
    """
    for name in ("source", "batch_id", "file_name_contains"):
        if getattr(policy, name) is not None and name not in kind.filters:
            raise ExtendInputError(f"Extend cannot list {kind} runs by {name}: leave {name} empty for this kind.")
    by_processor = [policy.only_processors, policy.except_processors, policy.minutes_by_processor]
    if kind.processor is None and any(by_processor):
        raise ExtendInputError(
            f"{kind} runs have no processor: leave only_processors, except_processors and minutes_by_processor empty."
        )


def describe_limit(max_processing_minutes: int, policy: StalePolicy) -> str:
    """What makes a run stale, for people."""
    total = f", or in all for more than {policy.max_total_minutes}" if policy.max_total_minutes is not None else ""
    return f"in progress for more than {max_processing_minutes} minutes without a change{total}"


def check_limit(max_processing_minutes: int) -> None:
    """Raise ExtendInputError for a limit that is none: a run without a limit would be stale at any age."""
    if not 1 <= max_processing_minutes <= LONGEST_MINUTES:
        raise ExtendInputError(
            f"max_processing_minutes is {max_processing_minutes}: take at least 1, and {LONGEST_MINUTES} at most"
        )


def age_band(age: timedelta, limit: timedelta) -> str:
    """Where an age lies against the limit, in words: the bars of the report's picture."""
    ratio = age / limit
    return next((band for bound, band in _BANDS if ratio <= bound), _OLDEST_BAND)


_BANDS = [(0.5, "up to ½"), (1.0, "½ to 1"), (2.0, "1 to 2"), (5.0, "2 to 5"), (20.0, "5 to 20")]
_OLDEST_BAND = "over 20"
AGE_BANDS = [band for _, band in _BANDS] + [_OLDEST_BAND]
"""Every band, youngest first, in multiples of the limit."""


def _file_matches(run: Run, needle: str | None) -> bool:
    # The listing has the same filter; checked again, since an ignored one would select every run.
    # Whether Extend minds the case is not known, so we do not.
    # The vendor's listing matches ids too for some kinds: names are what was asked for.
    return needle is None or any(needle.casefold() in name.casefold() for name in run.file_names)
