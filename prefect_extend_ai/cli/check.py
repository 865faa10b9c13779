"""`prefect-extend-ai check`: can sweeps run, and if not, what is to be done?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentStatus, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from prefect_extend_ai.cli.blocks import BlockName, differing_fields, saved_block
from prefect_extend_ai.cli.findings import (
    Finding,
    LastSweep,
    Verdict,
    judge_clock,
    judge_holds,
    judge_last_sweep,
    judge_pending,
)
from prefect_extend_ai.cli.help_texts import FAILED
from prefect_extend_ai.cli.reach import deployment_of, prefect_api
from prefect_extend_ai.cli.references import check_references
from prefect_extend_ai.client import Page
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError, ExtendInputError, RecordError
from prefect_extend_ai.prefect_io import pending_intents
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.policy import StalePolicy

__all__ = ["check_extend", "check_prefect", "how_to_serve", "newest", "run_check"]

ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


async def run_check(
    *, name: BlockName = "extend", kind: Annotated[KindName, Parameter(show_choices=True)] = "classify"
) -> int:
    """Check that sweeps can run, and print what is to be done where they cannot.

    Returns the exit code: 0, or 1 where a finding is marked fail.

    Args:
        name: Name of the block and of the deployment.
        kind: Kind of run that the key must be able to read.
    """
    findings, block = await check_prefect(name)
    findings = [*await check_extend(block, RunKind(kind), await _deployed_policy(name)), *findings]
    console = Console(soft_wrap=True, highlight=False)
    for each in findings:
        console.print(Text.assemble((f"{each.verdict:<6}", COLOURS[each.verdict]), f"{each.subject:<12}{each.text}"))
    return FAILED if any(each.verdict is Verdict.FAIL for each in findings) else 0


async def check_extend(
    block: ExtendCredentials | None, kind: RunKind, policy: StalePolicy | None = None
) -> list[Finding]:
    """Check that the key of the saved block, or else that of the environment, can read runs.

    Args:
        block: the saved block; None if there is none.
        kind: the kind of run to read.
        policy: the policy of sweeps, if known: then runs in progress are checked for holds that have no effect.
    """
    oldest = None
    try:
        credentials = block or ExtendSettings().credentials()
        page = await newest(credentials, kind)
        if policy is not None:
            async with credentials.get_client() as client:
                oldest = await anext(aiter(client.iter_pages(kind)))
    except ExtendError as error:
        return [Finding("Extend", Verdict.FAIL, str(error))]
    where = credentials.workspace_id or "the key's own workspace"
    source = "the saved block" if block else "EXTEND_*"
    found = [Finding("Extend", Verdict.OK, f"the key of {source} reads {kind} runs at {credentials.api_url}")]
    if page.runs:
        found.append(
            Finding("Workspace", Verdict.OK, f"{where}; its newest {kind} run is {visible(page.runs[0].id, 80)}")
        )
    else:
        doubt = "is it the right one, and the key of the right environment (test or production)?"
        found.append(Finding("Workspace", Verdict.WARN, f"{where} has no {kind} runs at all: {doubt}"))
    holds = judge_holds(oldest.runs, policy) if oldest and policy else None
    return [*found, judge_clock(page), *([holds] if holds else [])]


async def newest(credentials: ExtendCredentials, kind: RunKind = RunKind.CLASSIFY) -> Page:
    """A page with the newest run of a kind; empty if there is none. Raises ExtendError if the key cannot read."""
    async with credentials.get_client() as client:
        return await anext(aiter(client.iter_pages(kind, status=None, sort_dir="desc", page_size=1)))


async def _deployed_policy(name: str) -> StalePolicy | None:
    """The policy of the deployed sweep; None if it cannot be read."""
    try:
        async with prefect_api() as prefect:
            deployment = await deployment_of(prefect, "cancel-stale-runs", name)
            return StalePolicy.model_validate(deployment.parameters.get("policy") or {}) if deployment else None
    except (RecordError, ValidationError):
        return None


async def check_prefect(name: str) -> tuple[list[Finding], ExtendCredentials | None]:
    """Check Prefect's API, blocks, deployments and sweeps; returns the saved block too, if there is one."""
    block = None
    found: list[Finding] = []
    try:
        async with prefect_api() as prefect:
            found.append(Finding("Prefect", Verdict.OK, f"{without_password(prefect.api_url)} answers"))
            block = await saved_block(prefect, name)
            found.append(_judge_block(name, block))
            found += await check_references(prefect)
            found.append(await _check_sweeps(prefect, name))
            found += judge_pending(await pending_intents(prefect), block, datetime.now(UTC))
    except RecordError as error:
        found.append(Finding("Prefect", Verdict.FAIL, str(error)))
    return found, block


def _judge_block(name: str, block: ExtendCredentials | None) -> Finding:
    how = f"prefect-extend-ai setup --name {name}"
    if block is None:
        return Finding("Block", Verdict.FAIL, f'"{name}" is not saved: {how}')
    try:
        block.ensure_usable()
        settings = ExtendSettings()
        differing = differing_fields(block, settings.credentials()) if settings.api_key else []
    except ExtendInputError as error:
        return Finding("Block", Verdict.FAIL, f'"{name}": {error}')
    if differing:
        text = f'"{name}" is saved, and is what sweeps use; EXTEND_* differs in {", ".join(differing)}'
        return Finding("Block", Verdict.WARN, f"{text}. To overwrite the block: {how}")
    return Finding("Block", Verdict.OK, f'"{name}" is saved')


async def _check_sweeps(prefect: PrefectClient, name: str) -> Finding:
    deployment = await deployment_of(prefect, "cancel-stale-runs", name)
    if deployment is None:
        how = f"unless the block is for another deployment: prefect-extend-ai setup --name {name}"
        return Finding("Last sweep", Verdict.FAIL, f"cancel-stale-runs/{name} is not deployed; {how}")
    latest = await _first(prefect, deployment, ENDED, FlowRunSort.END_TIME_DESC)
    upcoming = await _first(prefect, deployment, [StateType.SCHEDULED], FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC)
    pool = deployment.work_pool_name
    return judge_last_sweep(
        _last_sweep(latest) if latest else None,
        paused=await _paused(prefect, deployment, name),
        scheduled=any(schedule.active for schedule in deployment.schedules),
        next_at=upcoming.expected_start_time if upcoming else None,
        ready=deployment.status is DeploymentStatus.READY,
        how_to_start=f"prefect worker start --pool {pool}" if pool else how_to_serve(deployment),
        now=datetime.now(UTC),
    )


def how_to_serve(deployment: DeploymentResponse) -> str:
    """The `serve` command that keeps the parameters of a deployment; without these options it would reset them."""
    words = f"prefect-extend-ai serve --name {deployment.name}"
    for option, parameter in (("--kind", "kind"), ("--limit", "max_processing_minutes")):
        if (value := deployment.parameters.get(parameter)) is not None:
            words += f" {option} {value}"
    if deployment.parameters.get("dry_run"):
        words += " --dry-run"
    for each in deployment.schedules:
        if isinstance(each.schedule, IntervalSchedule):
            words += f" --every {round(each.schedule.interval.total_seconds() / 60)}"
            break
    return words


async def _paused(prefect: PrefectClient, deployment: DeploymentResponse, name: str) -> str | None:
    pool = deployment.work_pool_name
    if deployment.paused:
        how = f"prefect-extend-ai setup --name {name} --resume" if pool else "start the process that serves it"
        return f"the deployment is paused: {how}"
    if pool and (await prefect.read_work_pool(pool)).is_paused:
        return f'the work pool "{pool}" is paused: prefect work-pool resume {pool}'
    return None


async def _first(
    prefect: PrefectClient, deployment: DeploymentResponse, states: Sequence[StateType], sort: FlowRunSort
) -> FlowRun | None:
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
    )
    return next(iter(await prefect.read_flow_runs(flow_run_filter=wanted, sort=sort, limit=1)), None)


def _last_sweep(run: FlowRun) -> LastSweep:
    state = run.state
    return LastSweep(
        name=run.name,
        state=run.state_name or "",
        message=(state.message if state else None) or "no message",
        since=state.timestamp if state else datetime.now(UTC),
        completed=run.state_type is StateType.COMPLETED,
    )
