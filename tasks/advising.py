"""The tasks of the advice on limits: read the runs that finished, and write the page."""

from uuid import UUID

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore, record_url
from prefect_extend_ai.rendering import unmarked
from prefect_extend_ai.rendering.advice import advice_page
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.rules.advice import LimitAdvice, advise

__all__ = ["read_advice", "write_advice"]


@task(name="read-finished-extend-runs", cache_policy=NO_CACHE)
async def read_advice(
    credentials: ExtendCredentials, kind: RunKind, max_runs: int, max_processing_minutes: int
) -> LimitAdvice:
    """Read the runs that finished last, and what they say of limits. Raises what `advise` raises."""
    async with credentials.get_client() as client:
        return await advise(client, kind, max_runs=max_runs, max_processing_minutes=max_processing_minutes)


@task(name="write-limit-advice", cache_policy=NO_CACHE)
async def write_advice(credentials: ExtendCredentials, advice: LimitAdvice) -> None:
    """Write the page of the advice, under a key whose history is that of the advice. Raises RecordError."""
    scope = Scope(kind=advice.kind, api_url=credentials.api_url, workspace_id=credentials.workspace_id)
    async with get_client() as client:
        artifact = await ArtifactStore(client).write(
            key=f"extend-limits-{scope.slug}",
            type="markdown",
            description=unmarked(advice.headline),
            data=advice_page(advice),
            flow_run_id=UUID(flow_run.id) if flow_run.id else None,
            task_run_id=UUID(task_run.id) if task_run.id else None,
        )
    get_run_logger().info("The advice: %s", record_url(artifact.id) or f"artifact {artifact.id}")
