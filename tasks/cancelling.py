"""Tasks that cancel: one run for flows of people's own, and the steps of a sweep."""

import asyncio
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_extend_ai.client import check_run_id
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.report import Cancellation
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.staleness import DEFAULT_POLICY, StalePolicy, why_not_at_all
from prefect_extend_ai.survey import Survey, Target, guarded_survey
from prefect_extend_ai.sweep import Sweep
from prefect_extend_ai.tasks.events import emit_cancelled
from prefect_extend_ai.tasks.ledger import prefect_ledger

__all__ = ["cancel_batch", "cancel_run", "settle_earlier_sweeps", "survey_runs"]


@task(name="cancel-extend-run", task_run_name="cancel {run_id}", cache_policy=NO_CACHE)
async def cancel_run(
    credentials: ExtendCredentials, run_id: str, kind: RunKind | KindName = "classify"
) -> Cancellation:
    """Cancel one run, whatever its age, and say truthfully what became of it.

    The whole way of a run: write ahead, check, cancel, confirm, record the final object as an artifact. A run whose
    metadata has `prefect_hold` set is spared. Await it from an async flow. It returns within seconds, or
    a few minutes where Extend does not answer.

    Args:
        credentials: The Extend account.
        run_id: The run's id.
        kind: The kind of run.

    Raises:
        ExtendInputError: The id or the kind cannot be right; nothing was sent.
        ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError: Extend refuses the account.
        RecordError: Prefect cannot be written to. Before the cancel, nothing was sent.
    """
    check_run_id(run_id)
    async with (
        credentials.get_client() as client,
        prefect_ledger(credentials, RunKind(kind), "one run by its id") as ledger,
    ):
        sweep = Sweep(client, ledger, spare=lambda run, _: why_not_at_all(run, DEFAULT_POLICY))
        (cancellation,) = await sweep.cancel_batch([Target(run_id)])
        emit_cancelled(ledger.scope.kind, cancellation)
    if sweep.stop.error is not None:
        raise sweep.stop.error
    return cancellation


@task(name="settle-earlier-sweeps", cache_policy=NO_CACHE)
async def settle_earlier_sweeps(sweep: Sweep) -> list[Cancellation]:
    """Record what became final of runs that earlier sweeps left open. Raises RecordError, ExtendAuthError, ..."""
    settled = await sweep.settle()
    await _say(sweep, settled)
    return settled


@task(name="survey-extend-runs", cache_policy=NO_CACHE)
async def survey_runs(sweep: Sweep, max_processing_minutes: int, policy: StalePolicy) -> Survey:
    """List everything in progress, sort it into stale and exempt, ask the guards. Raises what `take_survey` raises."""
    return await guarded_survey(sweep.client, sweep.ledger.scope.kind, max_processing_minutes, policy, stop=sweep.stop)


@task(name="cancel-extend-runs", cache_policy=NO_CACHE)
async def cancel_batch(sweep: Sweep, targets: Sequence[Target], *, events: bool = True) -> list[Cancellation]:
    """Cancel these runs and record how each ended; what happens to one of them raises nothing.

    Args:
        sweep: the sweep that the batch is of.
        targets: the runs.
        events: whether to emit an event for each run that was cancelled.
    """
    cancellations = await sweep.cancel_batch(targets)
    if events:
        await _say(sweep, cancellations)
    return cancellations


async def _say(sweep: Sweep, cancellations: Sequence[Cancellation]) -> None:
    for cancellation in cancellations:
        emit_cancelled(sweep.ledger.scope.kind, cancellation)
        await asyncio.sleep(0)  # requests of other batches go first
