"""What Prefect knows of the sweeps of each deployment: the last real one, the next, and who executes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentStatus, FlowRun, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.cli.blocks import deployment_name
from prefect_extend_ai.cli.fleet import SWEEP, Member
from prefect_extend_ai.cli.watch import LastSweep, PastRun, ScheduleFacts, Watch
from prefect_extend_ai.prefect_io.flow_runs import was_skipped
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import RunKind

__all__ = ["Watches", "how_to_serve"]

ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
PAGES = (50, 150)
"""Ended flow runs to read of a deployment: as many more where the first were all dry runs."""
LIMIT = 4
"""The worker's `--limit` in commands that are shown: each flow run is a process."""


class Watches:
    """Reads the facts of deployments from Prefect; each work pool is read once."""

    def __init__(self, prefect: PrefectClient, fleet: Sequence[Member], now: datetime) -> None:
        self._prefect, self._fleet, self._now = prefect, fleet, now
        self._pools: dict[str, WorkPool | None] = {}

    async def watch(self, member: Member) -> Watch:
        """The facts of one deployment of the sweep."""
        deployment = member.deployment
        last, dry, made = await self._sweeps(deployment)
        upcoming = await self._flow_runs(
            deployment, [StateType.SCHEDULED], FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1
        )
        worker, ready, paused, how_to_start = await self.worker(member)
        return Watch(
            name=member.name,
            kind=visible(deployment.parameters.get("kind") or "classify", 40),
            block=member.block,
            dry_run=bool(deployment.parameters.get("dry_run")),
            last=last,
            dry=dry,
            paused=paused,
            schedules=[
                ScheduleFacts(str(each.id), each.slug or str(each.id), bool(each.active), each.parameters or {})
                for each in deployment.schedules
            ],
            next_at=upcoming[0].next_scheduled_start_time if upcoming else None,
            worker=worker,
            ready=ready,
            how_to_start=how_to_start,
            parameters=deployment.parameters,
            updated=deployment.updated,
            changed=max(
                filter(None, [deployment.updated, *(each.updated for each in deployment.schedules)]), default=None
            ),
            made=made,
        )

    async def worker(self, member: Member) -> tuple[str, bool, str | None, str]:
        """What executes a deployment's flow runs, whether it polls, what is paused, and how to start it."""
        deployment = member.deployment
        ready = deployment.status is DeploymentStatus.READY
        if (name := deployment.work_pool_name) is None:
            how = how_to_serve(member, self._fleet)
            paused = f"the deployment is paused: {how}" if deployment.paused else None
            return "served by a process", ready, paused, how
        pool = await self._pool(name)
        paused = f"the deployment is paused: {_how_to_resume(member)}" if deployment.paused else None
        if paused is None and pool is not None and pool.is_paused:
            paused = f'the work pool "{visible(name, 80)}" is paused: prefect work-pool resume {visible(name, 80)}'
        if paused is None and (queue := await self._paused_queue(deployment)) is not None:
            how = f"prefect work-queue resume {visible(queue, 80)} --pool {visible(name, 80)}"
            paused = f'the work queue "{visible(queue, 80)}" is paused: {how}'
        # Prefect starts these itself: no worker polls.
        ready = ready or (pool is not None and (pool.is_push_pool or pool.is_managed_pool))
        how = f"prefect worker start --pool {visible(name, 80)} --limit {LIMIT}"
        return f'worker on pool "{visible(name, 80)}"', ready, paused, how

    async def _pool(self, name: str) -> WorkPool | None:
        if name not in self._pools:
            try:
                self._pools[name] = await self._prefect.read_work_pool(name)
            except ObjectNotFound:
                self._pools[name] = None
        return self._pools[name]

    async def _paused_queue(self, deployment: DeploymentResponse) -> str | None:
        """The name of the deployment's work queue, if that is paused: workers of the pool then leave its runs alone."""
        if deployment.work_queue_id is None:
            return None
        try:
            queue = await self._prefect.read_work_queue(deployment.work_queue_id)
        except ObjectNotFound:
            return None
        return queue.name if queue.is_paused else None

    async def _sweeps(self, deployment: DeploymentResponse) -> tuple[LastSweep | None, int, list[PastRun]]:
        """The last real sweep, the dry runs since, and what schedules have made."""
        runs: list[FlowRun] = []
        for page in PAGES:
            more = await self._flow_runs(deployment, ENDED, FlowRunSort.END_TIME_DESC, limit=page, offset=len(runs))
            runs += more
            if len(more) < page or any(_is_real(run) for run in runs):
                break
        made = [
            PastRun(str(run.created_by.id), run.created, run.parameters)
            for run in runs
            if run.auto_scheduled and run.created is not None and run.created_by is not None
        ]
        dry = 0
        for run in runs:
            if _is_real(run):
                return last_sweep(run, self._now), dry, made
            dry += bool(run.parameters.get("dry_run"))
        return None, dry, made

    async def _flow_runs(
        self,
        deployment: DeploymentResponse,
        states: Sequence[StateType],
        sort: FlowRunSort,
        *,
        limit: int,
        offset: int = 0,
    ) -> list[FlowRun]:
        return await self._prefect.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[UUID(str(deployment.id))]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
            ),
            sort=sort,
            limit=limit,
            offset=offset,
        )


def _is_real(run: FlowRun) -> bool:
    """Whether it swept for real: no dry run, and not left to a later sweep."""
    return not run.parameters.get("dry_run") and not was_skipped(run.state)


def last_sweep(run: FlowRun, now: datetime) -> LastSweep:
    """What is known of a flow run that has ended."""
    state = run.state
    return LastSweep(
        name=run.name,
        state=run.state_name or "",
        message=(state.message if state else None) or "no message",
        since=state.timestamp if state else now,
        completed=run.state_type is StateType.COMPLETED,
    )


def how_to_serve(member: Member, fleet: Iterable[Member] = ()) -> str:
    """The `serve` command that keeps the parameters of a served deployment; without these options it would reset them.

    Args:
        member: the deployment.
        fleet: all deployments: those that one process can serve together are named in one command.
    """
    options = _serve_options(member)
    if options is None:
        return "start the process that serves it"
    same = [each for each in (member, *fleet) if each.block == member.block and _serve_options(each) == options]
    kinds = [each for each in same if each.flow == SWEEP]
    together = [kind for kind in RunKind if kind in {each.kind for each in kinds}] or [RunKind.CLASSIFY]
    words = ["prefect-extend-ai serve", *(f"--kind {kind}" for kind in together)]
    return " ".join([*words, f"--name {member.block}", *options])


def _serve_options(member: Member) -> list[str] | None:
    """The other options of `serve`; None where it did not make this deployment."""
    deployment, block = member.deployment, member.block
    if deployment.work_pool_name is not None or block is None or member.kind is None:
        return None
    if deployment.name != (deployment_name(block, member.kind) if member.flow == SWEEP else block):
        return None
    options: list[str] = []
    if (limit := deployment.parameters.get("max_processing_minutes")) is not None:
        options.append(f"--limit {limit}")
    if deployment.parameters.get("dry_run"):
        options.append("--dry-run")
    for each in deployment.schedules:
        if isinstance(each.schedule, IntervalSchedule):
            options.append(f"--every {round(each.schedule.interval.total_seconds() / 60)}")
            break
    return options


def _how_to_resume(member: Member) -> str:
    block, kind = member.block, member.kind
    name = member.deployment.name
    if member.flow == SWEEP and block is not None and kind is not None and name == deployment_name(block, kind):
        return f"prefect-extend-ai setup --name {block} --kind {kind} --resume"
    if block is not None and name == block:
        return f"prefect-extend-ai setup --name {block} --resume"
    return "deploy it again, with `paused: false`"
