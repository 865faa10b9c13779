"""Whether a sweep that comes late has nothing left to do, because another did it meanwhile: pure decisions.

After a worker was away, its flow runs begin all at once, and nine late sweeps are the work of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = ["LATE", "SweepRun", "is_late", "superseded_by"]

LATE = timedelta(minutes=1)
"""A sweep that begins sooner after its scheduled time looks for no other: a process takes some seconds to start."""


@dataclass(frozen=True, slots=True)
class SweepRun:
    """A flow run of the sweep of one deployment.

    Attributes:
        id, name: the flow run's.
        due: when it was scheduled for.
        started: when it began.
        by_schedule: whether a schedule made it; one that a person started is never skipped.
        parameters: what it runs with.
        alive: whether it is at work now, or may be.
        completed: whether it has ended Completed.
        skipped: whether it was skipped itself.
    """

    id: str
    due: datetime
    started: datetime
    by_schedule: bool
    parameters: Mapping[str, Any]
    name: str = ""
    alive: bool = False
    completed: bool = False
    skipped: bool = False


def is_late(run: SweepRun) -> bool:
    """Whether a sweep began so long after its scheduled time that another may have done its work."""
    return run.by_schedule and run.started - run.due > LATE


def superseded_by(run: SweepRun, others: Sequence[SweepRun]) -> SweepRun | None:
    """The sweep that has done, or does, what this late one is for; None where there is none.

    It began after this one's scheduled time, so it looks at all that this one was to look at, and before this one, so
    that two which begin together do not both leave the work to each other. One that is at work counts only where it
    is not going to be skipped itself: by the same rule, over the same flow runs.

    Args:
        run: the sweep that begins now.
        others: the flow runs of the same deployment.
    """
    if not is_late(run):
        return None
    for other in others:
        began_before = (other.started, other.id) < (run.started, run.id)
        if not began_before or other.started <= run.due or other.parameters != run.parameters:
            continue
        if (other.completed and not other.skipped) or (other.alive and superseded_by(other, others) is None):
            return other
    return None
