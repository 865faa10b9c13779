"""What Prefect says of flow runs: whether one has ended, and whether somebody cancels it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterStartTime
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.liveness import sign_of_life
from prefect_extend_ai.prefect_io.naming import is_made_up
from prefect_extend_ai.sweep.lateness import SweepRun, is_late, superseded_by
from prefect_extend_ai.sweep.report import SKIPPED

__all__ = ["FlowRuns", "was_skipped"]

logger = logging.getLogger(__name__)

LOOK_BACK = timedelta(days=1)
"""Before a late sweep's scheduled time: those that began then tell whether one that began later was skipped."""

LOOKED_AT = 100
"""Most flow runs that are read, the latest first."""


class FlowRuns:
    """The flow runs of the Prefect that `store` talks to."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._ended: dict[UUID, bool] = {}

    async def has_ended(self, flow_run_id: UUID | None) -> bool:
        """Whether a flow run is over, as far as Prefect knows. Asked once. Raises RecordError."""
        if flow_run_id is None:
            return False
        if flow_run_id not in self._ended:
            try:
                reading = self._store.client.read_flow_run(flow_run_id)
                run = await self._store.asked("a flow run cannot be read", reading)
                self._ended[flow_run_id] = run.state is not None and run.state.is_final()
            except ObjectNotFound:
                self._ended[flow_run_id] = True
        return self._ended[flow_run_id]

    async def is_being_cancelled(self, flow_run_id: UUID | None) -> bool:
        """Whether somebody has asked Prefect to cancel a flow run; no, where Prefect cannot be asked."""
        if flow_run_id is None:
            return False
        try:
            reading = self._store.client.read_flow_run(flow_run_id)
            run = await self._store.asked("the flow run cannot be read", reading)
        except (RecordError, ObjectNotFound):
            return False
        return run.state is not None and run.state.is_cancelling()

    async def superseding(self, flow_run: FlowRun, longest: timedelta) -> SweepRun | None:
        """The sweep of the same deployment that makes this one unnecessary, which comes late; None where there is none.

        Prefect is asked only about a flow run that is late, and where it does not answer, the sweep goes on.

        Args:
            flow_run: the flow run that begins.
            longest: how long a sweep may last; of one on another machine that began earlier, nobody knows that it died.
        """
        this = _as_sweep(flow_run, longest)
        if this is None or flow_run.deployment_id is None or flow_run.run_count > 1 or not is_late(this):
            return None
        began = FlowRunFilterStartTime(after_=this.due - LOOK_BACK, is_null_=False)
        wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[flow_run.deployment_id]), start_time=began)
        reading = self._store.client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=LOOKED_AT
        )
        try:
            found = await self._store.asked("other sweeps cannot be looked up", reading)
        except (RecordError, ObjectNotFound) as error:
            logger.warning("Whether another sweep has done the work of this late one is not known: %s", error)
            return None
        others = [run for each in found if each.id != flow_run.id and (run := _as_sweep(each, longest)) is not None]
        return superseded_by(this, others)

    async def rename(self, flow_run_id: UUID, name: str, ours: str) -> None:
        """Give a flow run this name, unless somebody has named it otherwise meanwhile: a name is worth no failure."""
        try:
            run = await self._store.asked("the flow run cannot be read", self._store.client.read_flow_run(flow_run_id))
            if is_made_up(run.name, ours):
                naming = self._store.client.update_flow_run(flow_run_id, name=name)
                await self._store.asked("the flow run cannot be renamed", naming)
        except (RecordError, ObjectNotFound) as error:
            logger.warning("The flow run keeps its name: %s", error)


def _as_sweep(flow_run: FlowRun, longest: timedelta) -> SweepRun | None:
    """A flow run as the decision sees it; None for one that has not begun."""
    started, state = flow_run.start_time, flow_run.state
    due = flow_run.expected_start_time or started
    if started is None or due is None or state is None:
        return None
    sign = sign_of_life(flow_run.id) if state.is_running() else False
    return SweepRun(
        id=str(flow_run.id),
        name=flow_run.name,
        due=due,
        started=started,
        by_schedule=bool(flow_run.auto_scheduled),
        parameters=flow_run.parameters,
        alive=datetime.now(UTC) - started < longest if sign is None else sign,
        completed=state.is_completed(),
        skipped=was_skipped(state),
    )


def was_skipped(state: State[Any] | None) -> bool:
    """Whether a sweep ended so because another made it unnecessary: Completed like any other, by its message."""
    return state is not None and state.is_completed() and (state.message or "").startswith(SKIPPED)
