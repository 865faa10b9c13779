"""Which of the selected runs a sweep asks for, given what earlier sweeps left open: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from prefect_extend_ai.sweep.recovery.pending import may_ask, why_deferred
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel
from prefect_extend_ai.sweep.scan import Target

__all__ = ["Division", "divide"]

NOT_READ = "an earlier sweep left it open, and it is read again after this sweep's cancels"


@dataclass(frozen=True, slots=True)
class Division:
    """Stale runs by what this sweep does about them.

    Attributes:
        to_ask: the runs to cancel.
        deferred: runs that an earlier sweep left open, and that are not asked for in this one.
        set_aside: how many are asked for no more.
    """

    to_ask: list[Target]
    deferred: list[Cancellation]
    set_aside: int


def divide(targets: Sequence[Target], pending: Mapping[str, PendingCancel], unread: Collection[str]) -> Division:
    """Tell the runs to cancel from those that an earlier sweep left open and that must wait.

    Args:
        targets: the selected runs.
        pending: what is known of each run that an earlier sweep left open.
        unread: those of them that this sweep could not read, or has not read yet.
    """
    to_ask: list[Target] = []
    deferred: list[Cancellation] = []
    set_aside = 0
    for target in targets:
        known = pending.get(target.run_id)
        if known is None or (may_ask(known) and target.run_id not in unread):
            to_ask.append(target)
        elif known.set_aside and not known.is_news:
            set_aside += 1
        else:
            never_read = target.run_id in unread and known.outcome is None
            deferred.append(target.cancellation(Outcome.DEFERRED, NOT_READ if never_read else why_deferred(known)))
    return Division(to_ask, deferred, set_aside)
