"""When a sweep must be refused: too many stale runs, or an outage. All of it is pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect_extend_ai.client.clocks import CLOCK_GRAIN
from prefect_extend_ai.runs import CANCELLED, CANCELLING, Run
from prefect_extend_ai.sweep.rules.policy import OUTAGE_FROM, StalePolicy

__all__ = ["is_sign_of_life", "is_suspicious", "outage_words", "too_many", "was_cancelled_lately", "window_of"]

LEAST_WINDOW = timedelta(hours=4)
"""For so long a cancelled run counts towards an outage, whatever the limit."""

BEYOND_LIMIT = timedelta(hours=2)
"""How much longer than the limit it counts at least: where a cancel does not move `updatedAt`, a run that is cancelled
for being stale is as old as the limit from the first moment on."""


def too_many(stale: int, policy: StalePolicy) -> str | None:
    """Why this many stale runs are a mistake or an outage rather than a backlog; None where they are not."""
    if stale <= policy.refuse_above:
        return None
    return (
        f"{stale} stale runs are more than refuse_above allows ({policy.refuse_above}). "
        "Look whether the limit is right and Extend is up, then raise refuse_above to go on."
    )


def is_suspicious(stale: int, cancelled: int) -> bool:
    """Whether the runs that hang or were cancelled lately are enough to suspect an outage."""
    return stale + cancelled >= OUTAGE_FROM


def window_of(limit: timedelta) -> timedelta:
    """For how long a cancelled run counts: what a sweep cancels must not make the next one blind."""
    return max(limit + BEYOND_LIMIT, LEAST_WINDOW)


def was_cancelled_lately(run: Run, now: datetime, limit: timedelta) -> bool:
    """Whether anybody cancelled a listed run within the window, by its last change.

    Args:
        run: the run as listed.
        now: Extend's own clock.
        limit: after which a run is stale.
    """
    stopped = run.status in (CANCELLED, CANCELLING) or run.was_aborted
    return stopped and _is_within(run.updated_at, now, window_of(limit))


def is_sign_of_life(run: Run, now: datetime, limit: timedelta) -> bool:
    """Whether a listed run shows that Extend works: it was finished within the limit, and was lately begun.

    An old run that a person edits or reviews changes too, and says nothing. Nor does a FAILED one: in an outage runs
    may fail by the hundred. What lies in the future, or cannot be read, shows nothing.

    Args:
        run: the run as listed.
        now: Extend's own clock: the run's times are of its making.
        limit: after which a run is stale.
    """
    if run.status not in run.kind.worked or run.was_reviewed:
        return False
    return _is_within(run.updated_at, now, limit) and _is_within(run.created_at, now, max(4 * limit, LEAST_WINDOW))


def outage_words(stale: int, cancelled: int, limit: timedelta) -> str:
    """What the outage guard says where it refuses."""
    minutes = int(limit.total_seconds() // 60)
    hours = int(window_of(limit).total_seconds() // 3600)
    verb = "is" if stale == 1 else "are"
    lately = f", {cancelled} or more were cancelled within the last {hours} hours" if cancelled else ""
    return (
        f"{stale} run{'' if stale == 1 else 's'} {verb} stale{lately} and none has finished within the last {minutes} "
        "minutes: Extend seems to be down. Sweeps go on by themselves once a run finishes; set outage_guard to false "
        "if you know better."
    )


def _is_within(moment: datetime | None, now: datetime, span: timedelta) -> bool:
    return moment is not None and -CLOCK_GRAIN <= now - moment <= span
