"""What both flows do around their choice of runs: settle, choose, cancel, report, end."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import opaque

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError, RecordError
from prefect_extend_ai.flows.retrying import retried
from prefect_extend_ai.flows.stopping import stopping_gently
from prefect_extend_ai.prefect_io.events import emit_cancelled, emit_sweep
from prefect_extend_ai.prefect_io.journal import PrefectJournal, prefect_journal
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep import Division, Sweep, batches, runs_a_record
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepFailed, SweepRefused, SweepReport
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.staleness import DEFAULT_POLICY, StalePolicy
from prefect_extend_ai.sweep.witness import ListingWitness
from prefect_extend_ai.tasks.cancelling import cancel_batch, recover_earlier_sweeps, recover_more
from prefect_extend_ai.tasks.reporting import write_report

__all__ = ["Plan", "conduct", "whole"]

BATCHES_AT_ONCE = 4
"""While one batch confirms and records its last runs, the next ones keep the API's limit busy."""

FASTEST_PLAN = 100
"""Requests a second. Up to there events are emitted while requests wait for their turn. Beyond, nobody waits: Prefect
is what limits a sweep, and gets the events last."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs that a flow chose, and what its report already knows."""

    report: SweepReport
    targets: list[Target]


async def conduct(
    credentials: ExtendCredentials,
    report: SweepReport,
    choose: Callable[[Sweep, SweepReport], Awaitable[Plan]],
    *,
    spare: Callable[[Run, Target], str | None],
    policy: StalePolicy,
    rule: str,
    check: Callable[[], None] = lambda: None,
) -> Any:
    """Run a flow's body and return its end state; typed Any because Prefect hands the caller that state's result.

    Args:
        credentials: the account.
        report: the empty report, which says the kind, the limit and whether this is a dry run.
        choose: picks the runs.
        spare: says why no cancel may go out for a run as just read, None where one may.
        policy: how far the sweep may go.
        rule: what selects the runs, in words.
        check: raises ExtendInputError for bad input, before any request.
    """
    rules = _rules(policy) if report.limit_minutes is not None else []
    try:
        check()
        credentials.ensure_usable()
        report = report.model_copy(update={"workspace_id": credentials.workspace_id})
        async with (
            credentials.get_client() as client,
            prefect_journal(credentials, report.kind, _in_words(rule, rules), policy.confirm_seconds) as journal,
        ):
            sweep = Sweep(
                client,
                journal,
                spare,
                named=report.limit_minutes is None,
                raises_alarms=report.limit_minutes is not None and not report.dry_run,
                concurrency=concurrency(credentials.requests_per_second),
                confirm_seconds=policy.confirm_seconds,
                # Runs that are named are cancelled whatever their age: nobody has to vouch for it.
                listing=None
                if report.limit_minutes is None or report.kind.dated
                else ListingWitness(client, report.kind, policy),
            )
            minutes = policy.max_sweep_minutes
            sweep.stop.after(minutes * 60, f"the sweep took longer than {minutes} minutes")
            with stopping_gently(sweep.stop) as stopping, _left_uncollected():
                events_last = credentials.requests_per_second > FASTEST_PLAN
                done = await _run(
                    sweep, journal, report, choose, policy=policy, rule=rule, rules=rules, events_last=events_last
                )
                # Ended by the signal, a flow run that somebody cancelled would be Crashed first, and raise alarms.
                stopping.done = stopping.received and await journal.flow_runs.is_being_cancelled(journal.flow_run_id)
                end = Cancelled(message=done.headline) if stopping.done else _end(done, sweep.stop.error)
    except ExtendError as error:
        done = report.model_copy(update={"trouble": str(error)})
        emit_sweep(done)
        end = _end(done, error)
    return await retried(end)


async def _run(
    sweep: Sweep,
    journal: PrefectJournal,
    report: SweepReport,
    choose: Callable[[Sweep, SweepReport], Awaitable[Plan]],
    *,
    policy: StalePolicy,
    rule: str,
    rules: Sequence[tuple[str, str]],
    events_last: bool,
) -> SweepReport:
    recovered: list[Cancellation] = []
    plan = Plan(report, [])
    try:
        recovered = await recover_earlier_sweeps(whole(sweep))
        plan = await choose(sweep, report)
    except ExtendError as error:
        sweep.stop.set("nothing was cancelled, because of an error", error)
    parts = Division(plan.targets, [], 0) if sweep.named else sweep.divide(plan.targets)
    if parts.set_aside:
        plan.report.exempt["set_aside"] = parts.set_aside
    targets, late = parts.to_ask[: policy.max_cancellations], parts.to_ask[policy.max_cancellations :]
    if plan.report.refusal is not None:
        cancellations = _all(plan.targets, Outcome.DEFERRED, "a guard refused the sweep")
    else:
        cancellations = (
            _all(targets, Outcome.WOULD_CANCEL, f"dry run; {rule}")
            if report.dry_run
            else await _cancel(sweep, targets, events=not events_last)
        )
        cancellations += _all(
            late, Outcome.DEFERRED, f"over the cap of {policy.max_cancellations}; the next sweep goes on"
        )
        cancellations += parts.deferred
    recovered += await _finish(sweep, policy)
    trouble = sweep.stop.error
    done = plan.report.with_cancellations(cancellations).model_copy(
        update={
            "settled": len(recovered),
            "unrecorded": sweep.unrecorded,
            "pending": sweep.pending,
            "open_elsewhere": sweep.open_elsewhere,
            "trouble": str(trouble) if trouble else plan.report.trouble,
        }
    )
    say = get_run_logger().warning if done.needs_attention else get_run_logger().info
    say(done.headline)
    try:
        await write_report(journal, whole(done), rules)
    except RecordError as error:
        unwritten = f"the report could not be written: {error}"
        done = done.model_copy(update={"trouble": f"{done.trouble}; {unwritten}" if done.trouble else unwritten})
    emit_sweep(done)
    for cancellation in cancellations if events_last else []:
        emit_cancelled(report.kind, cancellation)
    return done


async def _finish(sweep: Sweep, policy: StalePolicy) -> list[Cancellation]:
    """Read on what earlier sweeps left open, as far as there is time; what was recorded of it."""
    try:
        more = await recover_more(whole(sweep), policy.max_sweep_minutes * 60 / 4) if sweep.has_more else []
        await sweep.finish()
    except ExtendError as error:
        sweep.stop.set("what earlier sweeps left open could not be read", error)
        return []
    return more


async def _cancel(sweep: Sweep, targets: list[Target], *, events: bool) -> list[Cancellation]:
    sweep.runs_a_record = runs_a_record(len(targets))
    in_hand = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def one(batch: Sequence[Target]) -> list[Cancellation]:
        async with in_hand:
            return await cancel_batch(whole(sweep), whole(batch), events=events)

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


def _rules(policy: StalePolicy) -> list[tuple[str, str]]:
    """Name and value of each rule that differs from its default, for the report."""
    fields = StalePolicy.model_fields.items()
    return [
        (field.title or name, str(getattr(policy, name)))
        for name, field in fields
        if getattr(policy, name) != getattr(DEFAULT_POLICY, name)
    ]


def _in_words(rule: str, rules: Sequence[tuple[str, str]]) -> str:
    """What selected the runs, for people who find an open note."""
    return "; ".join([rule, *(f"{name}: {value}" for name, value in rules)])


def whole(value: T) -> T:
    """Keep Prefect from walking through a task's argument in search of futures: reports and sweeps are large."""
    return cast(T, opaque(value))


def concurrency(requests_per_second: float) -> int:
    """How many runs are in hand until the answer to their cancel is there.

    Enough to keep the rate busy where a check and its cancel take a second each. How many of them are checked at a time
    is the rate limit's to say, so that a check is fresh when its cancel goes out.
    """
    return max(8, min(64, round(2 * requests_per_second)))
