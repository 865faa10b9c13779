"""Which runs of a batch a later sweep has to read again, and what is known of each: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from prefect_extend_ai.sweep.recovery.pending import after_attempt
from prefect_extend_ai.sweep.report import Outcome, PendingCancel
from prefect_extend_ai.sweep.result import Result

__all__ = ["left_open"]


def left_open(
    results: Iterable[Result],
    adopted: Mapping[str, PendingCancel],
    unrecorded: Collection[str],
    *,
    account_failed: bool,
    now: datetime,
) -> dict[str, PendingCancel | None]:
    """What is known of each run that stays open, by its id.

    Args:
        results: the results of a batch.
        adopted: what was known of the runs that an earlier sweep had left open.
        unrecorded: runs that ended and whose record could not be written.
        account_failed: whether an error of the whole account stopped the sweep: then a run in error is not at fault.
        now: the time.
    """
    found: dict[str, PendingCancel | None] = {}
    for result in results:
        run_id, outcome = result.cancellation.run_id, result.cancellation.outcome
        is_blameless = outcome is Outcome.ERROR and account_failed
        # An earlier sweep's cancel may still take effect on a run that it left open, whatever the outcome of ours.
        may_end = run_id in adopted and not outcome.is_end
        if result.open or run_id in unrecorded or may_end or (outcome.needs_attention and not is_blameless):
            found[run_id] = _known(result, adopted.get(run_id), now, is_blameless=is_blameless)
    return found


def _known(result: Result, before: PendingCancel | None, now: datetime, *, is_blameless: bool) -> PendingCancel | None:
    if is_blameless or (before is not None and result.cancellation.outcome in (Outcome.DEFERRED, Outcome.SPARED)):
        return before
    reported = before if before is not None and before.outcome is not None else None
    return after_attempt(result.cancellation, result.attempts, reported, now)
