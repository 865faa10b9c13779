"""Prefect's own retries of a flow that returns how it ended."""

from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.sweep.report import SweepFailed, SweepRefused

__all__ = ["retried"]


async def retried(end: State[Any]) -> State[Any]:
    """The end state of a flow run, where Prefect is not to try it again: with `retries=`, this raises meanwhile.

    Prefect's server takes no Failed while a retry is left. A flow that raises is then run again, on all of Prefect's
    versions; one that returns Failed is not on 3.8, and stays AwaitingRetry. The last attempt returns its end, which
    has a name. What no attempt can change ends at once: what a guard refused, and bad input.

    Raises:
        SweepFailed: The sweep failed, and Prefect has a retry left for it.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not isinstance(end.data, SweepFailed):
        return end
    flow_run, failure = context.flow_run, end.data
    retries = flow_run.empirical_policy.retries or 0
    if flow_run.run_count > retries:
        return end
    if isinstance(failure, SweepRefused) or isinstance(failure.__cause__, ExtendInputError):
        policy = flow_run.empirical_policy.model_copy(update={"retries": 0})
        try:
            async with get_client() as client:
                await client.update_flow_run(flow_run.id, empirical_policy=policy)
        except (httpx.HTTPError, PrefectException, OSError):
            raise failure from failure.__cause__
        return end
    raise failure
