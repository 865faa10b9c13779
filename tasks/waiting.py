"""Tasks about one run of your own flows: wait for it, or submit its document again."""

from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendInputError, ExtendTimeoutError
from prefect_extend_ai.prefect_io.journal import prefect_journal
from prefect_extend_ai.runs import KindName, Run, RunKind, check_run_id
from prefect_extend_ai.runs.ids import kind_of_run
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.resubmission.by_hand import resubmit_one
from prefect_extend_ai.sweep.resubmission.plan import check_resubmit
from prefect_extend_ai.sweep.waiting import wait_until_ended
from prefect_extend_ai.tasks.cancelling import cancel_run

__all__ = ["resubmit_run", "wait_for_run"]


@task(name="wait-for-extend-run", task_run_name="wait for {run_id}", cache_policy=NO_CACHE)
async def wait_for_run(
    credentials: ExtendCredentials,
    run_id: str,
    kind: RunKind | KindName | None = None,
    timeout_seconds: float = 1800,
    on_timeout: Literal["cancel", "leave"] = "cancel",
) -> Run:
    """Wait until a run has ended, and return it, however it ended: look at its status.

    It is read every second at first, then less often, up to every 30 seconds. Its deadline is its creation plus the
    time-out, so that a restart of your flow does not renew it; where a single read tells no times (parse, workflow),
    the call plus the time-out. At its deadline it is cancelled as `cancel_run` does. Await it in an async flow; in a
    sync flow, `wait_for_run.submit(credentials, run_id).result()`.

    Args:
        credentials: The Extend account.
        run_id: The run's id.
        kind: The kind of run. None is the one that the id's prefix says, or classify where that is not known.
        timeout_seconds: Seconds from the run's creation to its deadline.
        on_timeout: What to do with a run that has not ended by then: `cancel` it, or `leave` it alone.

    Raises:
        ExtendInputError: The id, the kind or the time-out cannot be right; nothing was sent.
        ExtendTimeoutError: It did not end in time. `outcome` is that of its cancel, None where it was left alone. A run
            that ends before the cancel takes effect is returned.
        ExtendError: It could not be read or cancelled.
    """
    check_run_id(run_id)
    found = kind_of_run(run_id, kind)
    if not timeout_seconds >= 0 or on_timeout not in ("cancel", "leave"):
        raise ExtendInputError("timeout_seconds is 0 or more, and on_timeout cancel or leave")
    async with credentials.get_client() as client:
        run = await wait_until_ended(client, run_id, found, timeout_seconds)
    if run.is_terminal:
        return run
    late = f"{run_id} was still {run.status} {timeout_seconds:g} s after its creation"
    if on_timeout == "leave":
        raise ExtendTimeoutError(f"{late}; it was left alone", run_id=run_id)
    cancellation = await cancel_run.fn(credentials, run_id, found)
    if cancellation.outcome is Outcome.FINISHED_FIRST:
        async with credentials.get_client() as client:
            return await client.get_run(run_id, found)
    raise ExtendTimeoutError(
        f"{late}: {cancellation.outcome}, {cancellation.reason}", run_id=run_id, outcome=cancellation.outcome.value
    )


@task(name="resubmit-extend-run", task_run_name="submit {run_id} again", cache_policy=NO_CACHE)
async def resubmit_run(credentials: ExtendCredentials, run_id: str, kind: RunKind | KindName | None = None) -> Run:
    """Submit the document of a cancelled or failed run again, once, and return the new run.

    The run must have been created over the API, with one file; it is looked for in the listing by its processor and
    file name, among 5,000 runs at most. The new run has the old one's metadata and three keys more, see
    docs/resubmit.md. Where a run that replaces it exists already, that one is returned and nothing is created.

    Args:
        credentials: The Extend account.
        run_id: The run's id.
        kind: The kind of run: classify, extract or split. None is the one that the id's prefix says.

    Raises:
        ExtendInputError: The id or the kind cannot be right; nothing was sent.
        ExtendTransportError: No clear response came, and no new run is found; it may have been created. It is not sent
            again: sweeps of its kind look for it for 24 hours.
        RecordError: Prefect cannot be written to; nothing was created.
        ExtendError: It cannot be submitted again, or could not be this time; the message says why.
    """
    check_run_id(run_id)
    found = kind_of_run(run_id, kind)
    check_resubmit(found, resubmit=True)
    async with (
        credentials.get_client() as client,
        prefect_journal(credentials, found, "one run, to be submitted again") as journal,
    ):
        return await resubmit_one(client, journal, run_id, found)
