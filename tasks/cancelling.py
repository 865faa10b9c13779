"""Tasks that cancel: one run for your own flows, and the batches of a sweep."""

from collections.abc import Callable, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.prefect_io.events import emit_cancelled, tell_cancelled
from prefect_extend_ai.prefect_io.journal import prefect_journal
from prefect_extend_ai.runs import KindName, RunKind, check_run_id
from prefect_extend_ai.runs.ids import kind_of_run
from prefect_extend_ai.sweep import NamedRuns, Sweep
from prefect_extend_ai.sweep.report import Cancellation
from prefect_extend_ai.sweep.scan import Target

__all__ = ["cancel_batch", "cancel_run"]


@task(name="cancel-extend-run", task_run_name="cancel {run_id}", cache_policy=NO_CACHE)
async def cancel_run(
    credentials: ExtendCredentials, run_id: str, kind: RunKind | KindName | None = None
) -> Cancellation:
    """Cancel one run, whatever its age, and return its true outcome.

    The whole way of a run: write ahead, check, cancel, confirm, record the final object as an artifact. A run whose
    metadata has `prefect_hold` set is spared. Await it from an async flow. It returns within seconds, or
    a few minutes where Extend does not answer.

    Args:
        credentials: The Extend account.
        run_id: The run's id.
        kind: The kind of run. None is the one that the id's prefix says, or classify where that is not known.

    Raises:
        ExtendInputError: The id or the kind cannot be right, or the id is of another kind; nothing was sent.
        ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError: Extend refuses the account.
        RecordError: Prefect cannot be written to. Before the cancel, nothing was sent.
    """
    check_run_id(run_id)
    found = kind_of_run(run_id, kind)
    async with (
        credentials.get_client() as client,
        prefect_journal(credentials, found, "one run by its id") as journal,
    ):
        sweep = Sweep(client, journal, NamedRuns(found, [run_id]))
        # Prefect may run this a second time: what the first attempt did must not be reported as another's.
        await sweep.recover(own_runs={run_id})
        (cancellation,) = await sweep.cancel_batch([Target(run_id)])
        await sweep.finish()
        emit_cancelled(journal.scope.kind, cancellation)
    if sweep.stop.error is not None:
        raise sweep.stop.error
    return cancellation


@task(name="cancel-extend-runs", cache_policy=NO_CACHE)
async def cancel_batch(
    sweep: Sweep, targets: Sequence[Target], on_done: Callable[[], None] = lambda: None, *, events: bool = True
) -> list[Cancellation]:
    """Cancel these runs and record how each ended; what happens to one of them raises nothing.

    Args:
        sweep: the sweep that the batch is of.
        targets: the runs.
        on_done: called for each once it is known how it ended.
        events: whether to emit an event for each run that was cancelled.
    """
    cancellations = await sweep.cancel_batch(targets, on_done)
    if events:
        await tell_cancelled(sweep.journal.scope.kind, cancellations)
    return cancellations
