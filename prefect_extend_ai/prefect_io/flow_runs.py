"""What Prefect says of flow runs: whether one has ended, and whether somebody cancels it."""

from __future__ import annotations

from uuid import UUID

from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore

__all__ = ["FlowRuns"]


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
