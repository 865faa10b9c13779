"""Submit the document of one run again, because somebody asked for it: with the care of a sweep."""

from __future__ import annotations

from dataclasses import replace

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendError, ExtendTransportError
from prefect_extend_ai.runs import CANCELLED, FAILED, Run, RunKind
from prefect_extend_ai.sweep.journal import Journal
from prefect_extend_ai.sweep.report import Cancellation, Outcome
from prefect_extend_ai.sweep.resubmission.eligibility import find_created
from prefect_extend_ai.sweep.resubmission.plan import CLOCK_GRAIN
from prefect_extend_ai.sweep.resubmission.results import ResubmitResult, plans_left
from prefect_extend_ai.sweep.resubmission.submitting import Resubmitter
from prefect_extend_ai.sweep.resubmission.successors import find_successors
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.targets import Target

__all__ = ["resubmit_one"]


async def resubmit_one(client: ExtendClient, journal: Journal, run_id: str, kind: RunKind) -> Run:
    """The run that replaces a cancelled or failed one: a new one, or the one that was created before.

    Raises:
        ExtendTransportError: No clear response came, and no new run is found: it may have been created.
        RecordError: It could not be written down first, so nothing was sent.
        ExtendError: The document cannot be submitted again, and why.
    """
    stop = Stop()
    resubmitter = Resubmitter(client, journal, stop, by_hand=True)
    run = await client.get_run(run_id, kind)
    if run.status not in (CANCELLED, FAILED):
        raise ExtendError(f"{run_id} is {run.status}: only a cancelled or a failed run is submitted again")
    same = {"processor_id": run.processor_id, "file_name_contains": next(iter(run.file_names), None)}
    before = await find_successors(client, kind, {run_id: run.created_at}, **same)
    if before:
        return await client.get_run(before[run_id], kind)
    created = await find_created(client, kind, {run_id}, stop, status=run.status, **same)
    plan = created.plan(Target.of(run), None).plan
    if plan is None:
        raise AssertionError("a target has a plan")  # pragma: no cover
    plan = plan.model_copy(update={"planned_at": run.updated_at or resubmitter.now()})
    asked = Cancellation(run_id=run_id, outcome=Outcome.CANCELLED, reason=f"{run_id} is {run.status}")
    result = await resubmitter.decide(Result(asked, run, may_be_ours=True), plan)
    if result.request is None:
        raise ExtendError(result.cancellation.reason)
    own = await journal.log([], {run_id: plan})
    request = replace(result.request, created_after=plan.planned_at and plan.planned_at - CLOCK_GRAIN)
    results = await resubmitter.submit(own, [request])
    again = results[run_id]
    # What was not sent is for the caller to ask for again: no sweep does it behind their back.
    left = plans_left(own, (), results)
    await journal.complete(own, {}, plans=left if again.resubmission == "unknown" else replace(left, left={}))
    return await _new_run(client, kind, again, stop)


async def _new_run(client: ExtendClient, kind: RunKind, again: ResubmitResult, stop: Stop) -> Run:
    if again.new_run is not None:
        return again.created or await client.get_run(again.new_run, kind)
    if again.resubmission == "unknown":
        raise ExtendTransportError(again.reason)
    raise stop.error or ExtendError(again.reason)
