"""What `setup` says at its end: what is stale, when the first real sweep cancels it, and what to type next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from prefect_extend_ai.cli.plan import DEPLOYMENTS
from prefect_extend_ai.runs import duration
from prefect_extend_ai.sweep.rules.policy import DEFAULT_POLICY
from prefect_extend_ai.sweep.scan import Scan

__all__ = ["next_steps", "next_sweep", "stale_words", "when_words", "would_cancel"]

LOOKS = 20
PAUSE_SECONDS = 0.5
"""Prefect's scheduler makes the flow runs of a new schedule within some seconds."""

NEXT = """\
{worker}
What a sweep would cancel, as a page in Prefect, while the worker runs
  prefect deployment run {sweep} --param dry_run=true --watch
Alarms, a digest of each sweep that cancelled something, and an alarm when no sweep ends{renamed}
  prefect deploy --all --prefect-file {automations}
Later, from time to time
  prefect-extend-ai check"""
WORKER = """\
Next, in another terminal: the worker. {sweeps}
  prefect worker start --pool {pool} --limit 4"""


def next_steps(sweep: str, pool: str, *, own_pool: bool, running: bool, scheduled: bool) -> str:
    """What to type after `setup`.

    Args:
        sweep: the first deployment of a sweep.
        pool: the work pool.
        own_pool: whether it is another than the shipped files name.
        running: whether a worker of it runs.
        scheduled: whether any schedule is on.
    """
    if running:
        worker = f"The worker is running: {'scheduled sweeps cancel for real' if scheduled else 'no schedule is on'}"
    else:
        sweeps = "Once it has started, scheduled sweeps run, and cancel for real" if scheduled else "No schedule is on"
        worker = WORKER.format(pool=pool, sweeps=sweeps)
    automations = DEPLOYMENTS / "automations.yaml"
    renamed = f": put your work pool into a copy of\n  {automations}\nand deploy that" if own_pool else ""
    return NEXT.format(
        worker=worker, sweep=sweep, renamed=renamed, automations="automations.yaml" if own_pool else automations
    )


def would_cancel(found: Scan | str, parameters: Mapping[str, Any]) -> int | None:
    """How many runs a sweep with these parameters would cancel now; None where that is not known."""
    if isinstance(found, str):
        return None
    policy = parameters.get("policy")
    most = policy.get("max_cancellations") if isinstance(policy, dict) else None
    cap = most if isinstance(most, int) else DEFAULT_POLICY.max_cancellations
    return 0 if found.refusal is not None or parameters.get("dry_run") else min(len(found.stale), cap)


def stale_words(found: Scan | str, kind: str, parameters: Mapping[str, Any]) -> str:
    """What a sweep with these parameters would select now, as a sentence."""
    if isinstance(found, str):
        return f"{kind} runs: not known, {found}"
    if found.refusal is not None:
        return f"the sweep of {kind} runs would be refused: {found.refusal}"
    stale, cancels = len(found.stale), would_cancel(found, parameters)
    which = f"{stale:,} {kind} run{'' if stale == 1 else 's'}, of {found.listed:,} listed"
    if parameters.get("dry_run"):
        return f"{which}: the deployment only makes dry runs"
    if cancels != stale:
        return f"{which}: a sweep would cancel {cancels:,} of them now"
    return f"{which}: what a sweep would cancel now"


def when_words(kind: str, at: datetime | None, cancels: int | None, now: datetime) -> str:
    """When a sweep comes that a running worker executes, and what it does."""
    if at is None:
        when = "as soon as the schedule says"
    else:
        when = f"in {duration((at - now).total_seconds())}, at {at.astimezone(UTC):%H:%M} UTC" if at > now else "now"
    what = "" if cancels is None else f"; as of now it would cancel {cancels:,} run{'' if cancels == 1 else 's'}"
    return f"{kind} runs, for real: {when}{what}"


async def next_sweep(prefect: PrefectClient, deployment: DeploymentResponse) -> datetime | None:
    """When the next flow run is due that a schedule has made; None if none is made within some seconds."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(PAUSE_SECONDS)
        runs = await prefect.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1
        )
        if runs:
            return runs[0].next_scheduled_start_time
    return None
