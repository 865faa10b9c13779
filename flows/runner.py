"""What both flows do: recover, select, cancel, report, end."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities import annotations

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError, RecordError
from prefect_extend_ai.flows.lateness import why_skipped
from prefect_extend_ai.flows.naming import rename
from prefect_extend_ai.flows.progress import telling_progress
from prefect_extend_ai.flows.reporting import leave_report, report_sweep, rules
from prefect_extend_ai.flows.retrying import retried
from prefect_extend_ai.flows.stopping import stopping_gently
from prefect_extend_ai.prefect_io.events import emit_sweep, tell_cancelled
from prefect_extend_ai.prefect_io.journal import PrefectJournal, prefect_journal
from prefect_extend_ai.prefect_io.reports import read_history
from prefect_extend_ai.sweep import Selection, Selector, Sweep, batches, runs_a_record
from prefect_extend_ai.sweep.history import History
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepFailed, SweepRefused, SweepReport
from prefect_extend_ai.sweep.rules.staleness import StalePolicy
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.tasks.cancelling import cancel_batch

__all__ = ["opaque", "run_sweep"]

BATCHES_AT_ONCE = 4
"""While one batch confirms and records its last runs, the next ones keep the API's limit busy."""

FASTEST_PLAN = 100
"""Requests a second. Up to there events are emitted while requests wait for their turn. Beyond, nobody waits: Prefect
is what limits a sweep, and gets the events last."""

T = TypeVar("T")


async def run_sweep(
    credentials: ExtendCredentials,
    selector: Selector,
    *,
    dry_run: bool = False,
    missing_protections: Mapping[str, str] | None = None,
) -> Any:
    """Run a flow's body and return its end state; typed Any because Prefect hands the caller that state's result.

    Args:
        credentials: the account.
        selector: which runs the sweep is about.
        dry_run: only look.
        missing_protections: what the deployment's policy has and this run's lacks.
    """
    report = SweepReport(
        kind=selector.kind,
        dry_run=dry_run,
        limit_minutes=selector.limit_minutes,
        missing_protections=dict(missing_protections or {}),
    )
    try:
        selector.validate()
        credentials.ensure_usable()
        report = report.model_copy(update={"workspace_id": credentials.workspace_id})
        confirm_seconds, minutes = selector.policy.confirm_seconds, selector.policy.max_sweep_minutes
        async with (
            credentials.get_client() as client,
            prefect_journal(credentials, selector.kind, _describe(selector), confirm_seconds) as journal,
        ):
            if (why := await why_skipped(journal, selector, dry_run=dry_run)) is not None:
                done = report.model_copy(update={"skipped": why})
                get_run_logger().info(done.headline)
                await rename(journal, credentials, done)
                return Completed(message=done.headline, data=done)
            sweep = Sweep(
                client,
                journal,
                selector,
                raises_alarms=not (selector.is_named or dry_run),
                concurrency=concurrency(credentials.requests_per_second),
                confirm_seconds=confirm_seconds,
            )
            sweep.stop.after(minutes * 60, f"the sweep took longer than {minutes} minutes")
            with stopping_gently(sweep.stop) as stopping, _left_uncollected():
                done = await _run(sweep, journal, report, rate=credentials.requests_per_second)
                # Ended by the signal, a flow run that somebody cancelled would be Crashed first, and raise alarms.
                await rename(journal, credentials, done)
                stopping.done = stopping.received and await journal.flow_runs.is_being_cancelled(journal.flow_run_id)
                end = Cancelled(message=done.headline) if stopping.done else _end(done, sweep.stop.error)
    except ExtendError as error:
        done = report.model_copy(update={"trouble": str(error)})
        # It could not begin, for bad input say: its report is there all the same.
        with suppress(RecordError):
            async with prefect_journal(credentials, selector.kind, selector.describe()) as journal:
                await leave_report(journal, selector, done)
        emit_sweep(done)
        end = _end(done, error)
    return await retried(end)


async def _run(sweep: Sweep, journal: PrefectJournal, report: SweepReport, *, rate: float) -> SweepReport:
    policy = sweep.selector.policy
    recovered: list[Cancellation] = []
    selection, found = Selection([]), Selection([])
    history: History | None = None
    try:
        # No task runs here: each is three events, and most sweeps find nothing.
        recovered = await sweep.recover()
        await tell_cancelled(report.kind, recovered)
        history = History() if sweep.selector.is_named else await read_history(journal)
        found = await sweep.select()
        selection = history.leave_out(found)
    except ExtendError as error:
        sweep.stop.set("nothing was cancelled, because of an error", error)
    report = report.model_copy(update=selection.facts)
    parts = sweep.divide(selection.targets)
    if parts.set_aside:
        report.exempt["set_aside"] = parts.set_aside
    targets, late = parts.to_ask[: policy.max_cancellations], parts.to_ask[policy.max_cancellations :]
    if report.refusal is not None:
        cancellations = _all(selection.targets, Outcome.DEFERRED, "a guard refused the sweep")
    else:
        if report.dry_run:
            cancellations = [target.would_cancel(sweep.selector.describe()) for target in targets]
        else:
            counts = {"total": len(targets), "stale": len(selection.targets)}
            async with telling_progress(journal, report, **counts, rate=rate) as on_done:
                cancellations = await _cancel(sweep, targets, on_done, events=rate <= FASTEST_PLAN)
        over = f"over the cap of {policy.max_cancellations}; the next sweep goes on"
        cancellations += [*_all(late, Outcome.DEFERRED, over), *parts.deferred]
    recovered += await _finish(sweep, policy, submits=not report.dry_run and report.refusal is None)
    trouble = sweep.stop.error
    done = report.with_cancellations(cancellations).model_copy(
        update={
            "recovered": recovered,
            "unrecorded": sweep.unrecorded,
            "pending": sweep.pending,
            "resubmissions": sweep.resubmissions,
            "open_elsewhere": sweep.open_elsewhere,
            "trouble": str(trouble) if trouble else report.trouble,
        }
    )
    events_last = rate > FASTEST_PLAN
    return await report_sweep(
        journal, sweep.selector, done, history, found.targets, recovered=recovered, events_last=events_last
    )


async def _finish(sweep: Sweep, policy: StalePolicy, *, submits: bool) -> list[Cancellation]:
    """Read on what earlier sweeps left open, as far as there is time; what was recorded of it.

    Args:
        sweep: the sweep.
        policy: its rules.
        submits: whether what earlier sweeps were to submit again is submitted now.
    """
    try:
        more = await sweep.recover_more(policy.max_sweep_minutes * 60 / 4) if sweep.has_more else []
        await tell_cancelled(sweep.selector.kind, more)
        if submits and sweep.resubmissions:
            await sweep.resubmit_earlier()
        await sweep.finish()
    except ExtendError as error:
        sweep.stop.set("what earlier sweeps left open could not be read", error)
        return []
    return more


async def _cancel(
    sweep: Sweep, targets: list[Target], on_done: Callable[[], None], *, events: bool
) -> list[Cancellation]:
    sweep.runs_a_record = runs_a_record(len(targets))
    in_hand = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def one(batch: Sequence[Target]) -> list[Cancellation]:
        async with in_hand:
            return await cancel_batch(opaque(sweep), opaque(batch), opaque(on_done), events=events)

    done = await asyncio.gather(*(one(batch) for batch in batches(targets)))
    return [cancellation for batch in done for cancellation in batch]


@contextmanager
def _left_uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking, while requests wait for their turn, at what was there before.

    Prefect and what it imports are a hundred thousand objects, and a look at them stops everything for 150 ms: at 75
    requests a second ten turns are lost each time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _end(report: SweepReport, cause: ExtendError | None) -> Any:
    """The flow's end state. The exception is a failed one's data, so that a direct call raises it."""
    if not report.needs_attention:
        name = "StillPending" if report.still_pending else None
        return Completed(name=name, message=report.headline, data=report)
    refused = report.refusal is not None
    failure = (SweepRefused if refused else SweepFailed)(report.headline, report)
    failure.__cause__ = cause
    return Failed(name="Refused" if refused else None, message=report.headline, data=failure)


def _all(targets: list[Target], outcome: Outcome, reason: str) -> list[Cancellation]:
    return [target.cancellation(outcome, reason) for target in targets]


def _describe(selector: Selector) -> str:
    """What selects the runs, for people who find a pending intent."""
    return "; ".join([selector.describe(), *(f"{name}: {value}" for name, value in rules(selector))])


def opaque(value: T) -> T:
    """Keep Prefect from walking through a task's argument in search of futures: reports and sweeps are large."""
    return cast(T, annotations.opaque(value))


def concurrency(requests_per_second: float) -> int:
    """How many runs are in progress at once, until the response to their cancel.

    Enough to keep the rate busy where a check and its cancel take a second each. How many of them are checked at a time
    is the rate limit's to say, so that a check is fresh when its cancel goes out.
    """
    return max(8, min(64, round(2 * requests_per_second)))
