"""When a run that does not end is asked for again, when a person is alarmed, and when it is set aside: pure decisions.

An alarm is news. So it is raised when a run is first left open, and again once that has lasted 1, 6 and 24 hours. A run
that was asked to be cancelled is asked again at these times only; after the last of them it is set aside.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel

__all__ = [
    "ALARMS",
    "after_attempt",
    "at_sweep",
    "interrupted",
    "may_ask",
    "next_alarm",
    "why_deferred",
    "worth_reporting",
]

ALARMS = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
"""How long a run has to be pending for another alarm; after the last it is set aside."""

REQUEST_IDS = 10
"""How many of the latest request ids are kept of a run."""


def interrupted(run_id: str, since: datetime) -> PendingCancel:
    """What is known of a run whose sweep was interrupted: whether a cancel was sent is not."""
    return PendingCancel(run_id=run_id, since=since)


def at_sweep(pending: PendingCancel, now: datetime, status: str | None, *, alarm: bool) -> PendingCancel:
    """The same as a later sweep finds it: with its status now, and whether an alarm is due.

    Args:
        pending: what was known of it.
        now: the time.
        status: its status, None where it could not be read.
        alarm: whether this sweep raises alarms; where not, none is counted as raised.
    """
    due = 1 + sum(now - pending.since >= each for each in ALARMS) if alarm else 0
    return pending.model_copy(
        update={
            "status": status or pending.status,
            "alarms": max(due, pending.alarms),
            "is_news": due > pending.alarms,
            "set_aside": max(due, pending.alarms) > len(ALARMS),
        }
    )


def may_ask(pending: PendingCancel) -> bool:
    """Whether a sweep sends another cancel for a run that it selected and that an earlier sweep left open.

    Where none was sent, or a sweep was interrupted before that is known, there is nothing to wait for.
    """
    return pending.is_news or (not pending.attempts and not pending.set_aside)


def next_alarm(pending: PendingCancel) -> datetime | None:
    """When it is asked for again; None once it is set aside."""
    return None if pending.alarms > len(ALARMS) else pending.since + ALARMS[max(pending.alarms - 1, 0)]


def why_deferred(pending: PendingCancel) -> str:
    """Why a sweep does not ask for a run that it selected."""
    known = f"known since {pending.since:%Y-%m-%d %H:%M} UTC"
    how = f" ({pending.outcome})" if pending.outcome else ""
    again = next_alarm(pending)
    if again is None:
        return f"set aside{how}, {known}: name it in cancel_runs to ask again"
    return f"{known}{how}; the sweep after {again:%Y-%m-%d %H:%M} UTC asks again"


def after_attempt(
    cancellation: Cancellation, attempts: int, before: PendingCancel | None, now: datetime
) -> PendingCancel:
    """What is known of a run that an attempt has left open, added to what was known before."""
    earlier = before or PendingCancel(run_id=cancellation.run_id, since=now, attempts=0, alarms=1)
    request_ids = [*earlier.request_ids, *cancellation.request_ids]
    return earlier.model_copy(
        update={
            "attempts": (earlier.attempts or 0) + attempts,
            "outcome": cancellation.outcome,
            "status": cancellation.status or earlier.status,
            "request_ids": list(dict.fromkeys(request_ids))[-REQUEST_IDS:],
        }
    )


def worth_reporting(pending: Iterable[PendingCancel], now: datetime) -> list[PendingCancel]:
    """What a report lists as pending, oldest first.

    A run that is not found is listed for a day: it may be found again, and nobody can do anything for it.
    """
    listed = [each for each in pending if each.outcome is not Outcome.NOT_FOUND or now - each.since < ALARMS[-1]]
    return sorted(listed, key=lambda each: (each.since, each.run_id))
