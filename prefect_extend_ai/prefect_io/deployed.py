"""The deployment that a flow run is of, and what it has set."""

from __future__ import annotations

import logging

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from pydantic import ValidationError

from prefect_extend_ai.sweep.rules.policy import StalePolicy

__all__ = ["policy_of_deployment"]

logger = logging.getLogger(__name__)


async def policy_of_deployment() -> StalePolicy | None:
    """The policy of the deployment that somebody started this flow run of; None where there is none to be read.

    A run that the schedule made has the deployment's own, and costs no request.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    if flow_run is None or flow_run.deployment_id is None or flow_run.auto_scheduled:
        return None
    try:
        async with get_client() as client:
            deployment = await client.read_deployment(flow_run.deployment_id)
        return StalePolicy.model_validate(deployment.parameters.get("policy") or {})
    except (httpx.HTTPError, PrefectException, OSError, ValidationError):
        logger.debug("The policy of deployment %s cannot be read", flow_run.deployment_id, exc_info=True)
        return None
