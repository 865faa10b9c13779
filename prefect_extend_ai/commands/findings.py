"""What a check found, in one line each, and whether it is well."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Finding", "LastSweep", "Verdict", "judge_clock", "judge_last_sweep"]

CLOCK_TOLERANCE = timedelta(seconds=30)
"""The `Date` header is in whole seconds, and an answer takes its time."""
STILL_PENDING = "StillPending"
"""The name of the state of a sweep that completed, and knows of cancels that have not."""
NO_BLOCK = "Failed to resolve block references"
"""What Prefect says of a flow run whose parameters name a block that is not there, and no more."""
BLOCK_MISSING = "the block that it named was not there: save that again, or name another in the deployment's parameters"


class Verdict(enum.StrEnum):
    """How a finding is marked."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is broken by it."""
    MEND = "mend"
    """Sweeps cannot run, or not as meant, until somebody mends it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check.

    Attributes:
        about: what was looked at.
        verdict: how it is.
        said: what was found, and what to do.
    """

    about: str
    verdict: Verdict
    said: str


@dataclass(frozen=True, slots=True)
class LastSweep:
    """The latest run of a deployment that has begun.

    Attributes:
        name: the flow run's name.
        state: its state's name, such as `Completed` or `Refused`.
        message: its state's message.
        since: when it came into that state.
        well: whether that state is Completed or still under way.
    """

    name: str
    state: str
    message: str
    since: datetime
    well: bool


def judge_clock(theirs: datetime | None, ours: datetime) -> Finding:
    """Compare Extend's clock, from an answer's `Date`, with the one here when the answer came."""
    if theirs is None:
        return Finding("Clock", Verdict.NOTE, "Extend's answer has no date to compare with")
    ahead = ours - theirs
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding("Clock", Verdict.OK, "agrees with Extend's")
    way = "ahead of" if ahead > timedelta() else "behind"
    said = f"{_span(abs(ahead))} {way} Extend's; sweeps go by Extend's clock, but schedules do not: set this one (NTP)"
    return Finding("Clock", Verdict.NOTE, said)


def judge_last_sweep(
    last: LastSweep | None,
    *,
    paused: str | None,
    scheduled: bool,
    coming: datetime | None,
    staffed: bool,
    how_to_start: str,
    now: datetime,
) -> Finding:
    """Whether sweeps happen, and end well.

    Args:
        last: the latest sweep that has ended, None where there is none.
        paused: what somebody has paused, and what to type to resume it; None where nothing is.
        scheduled: whether a schedule is active.
        coming: when the next one is due, None where that is not known.
        staffed: whether a worker, or a serving process, has asked for runs within the last minute.
        how_to_start: what to type to have one.
        now: the time.
    """
    about = "Last sweep"
    told = f"{_span(now - last.since)} ago: {last.state}, {last.message}" if last else "there was none yet"
    if last is not None and not last.well:
        how = f": {BLOCK_MISSING}" if NO_BLOCK in last.message else ""
        return Finding(about, Verdict.MEND, f"{told} (flow run {last.name}){how}")
    if paused is not None:
        return Finding(about, Verdict.MEND, f"{told}; no sweep will run: {paused}")
    if not staffed:
        return Finding(about, Verdict.MEND, f"{told}; nothing is there to run the next one: {how_to_start}")
    if not scheduled:
        return Finding(about, Verdict.MEND, f"{told}; no sweep will run: no schedule is active, the UI switches one on")
    due = f"the next is due in {_span(coming - now)}" if coming else "a schedule is active"
    if last is not None and last.state == STILL_PENDING:
        return Finding(about, Verdict.NOTE, f"{told}; cancels of earlier sweeps are still pending; {due}")
    return Finding(about, Verdict.OK if last else Verdict.NOTE, f"{told}; {due}")


def _span(time: timedelta) -> str:
    seconds = max(round(time.total_seconds()), 0)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
