"""Prefect's API, or one sentence on why it cannot be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import get_current_settings

from prefect_extend_ai.client.network import settings_problem
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.addresses import without_password

__all__ = ["deployment_of", "prefect_api"]

NO_API = (
    "Prefect has no API to talk to: start a server with `prefect server start`, then "
    "`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api` (or `prefect cloud login`)"
)


@asynccontextmanager
async def prefect_api() -> AsyncIterator[PrefectClient]:
    """The API that PREFECT_API_URL or the active profile names.

    Raises RecordError where none is named, it does not answer, or it refuses what is asked of it within.
    """
    # Without an address Prefect would start a temporary server for this process alone.
    if not get_current_settings().api.url:
        raise RecordError(NO_API)
    try:
        async with get_client() as client:
            # Otherwise Prefect retries for a minute before it reports that the server does not answer.
            await client.hello()
            yield client
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        hint = ": set PREFECT_API_AUTH_STRING or PREFECT_API_KEY" if status in (401, 403) else ""
        problem = f"answers HTTP {status} to {error.request.method} {error.request.url.path}{hint}"
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, PrefectException, OSError) as error:
        wrong = _settings_problem(error)
        problem = f"cannot be reached: {wrong}" if wrong else _no_answer(error)
    else:
        return
    raise RecordError(f"Prefect at {without_password(get_current_settings().api.url)} {problem}")


def _settings_problem(error: Exception) -> str | None:
    try:
        return settings_problem(error, httpx.URL(get_current_settings().api.url or ""))
    except httpx.InvalidURL:
        return "PREFECT_API_URL is not an address"


def _no_answer(error: Exception) -> str:
    return f"does not answer ({type(error).__name__}): is the server up, and PREFECT_API_URL right?"


async def deployment_of(prefect: PrefectClient, flow: str, name: str) -> DeploymentResponse | None:
    """The deployment of a flow with this name; None if there is none."""
    try:
        return await prefect.read_deployment_by_name(f"{flow}/{name}")
    except ObjectNotFound:
        return None
