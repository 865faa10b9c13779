"""`prefect-extend-ai setup`: from an API key to a schedule for each kind of run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection, Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter
from prefect.client.orchestration import PrefectClient
from rich.console import Console
from rich.prompt import Confirm

from prefect_extend_ai.cli.accounts import newest
from prefect_extend_ai.cli.blocks import (
    BlockName,
    KindOption,
    PoolName,
    deployment_name,
    differing_fields,
    kinds_of,
    saved_block,
)
from prefect_extend_ai.cli.deploying import deploy
from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.cli.first_sweep import next_steps, next_sweep, stale_words, when_words, would_cancel
from prefect_extend_ai.cli.fleet import ADVICE, BY_IDS, SWEEP, Member, kind_of, read_fleet
from prefect_extend_ai.cli.limits import limit_words
from prefect_extend_ai.cli.plan import Deployed, JobVariable, deployment_plan, job_variables
from prefect_extend_ai.cli.pools import ensure_pool, has_worker, image_notes
from prefect_extend_ai.cli.reach import prefect_api
from prefect_extend_ai.cli.unswept import count_unswept, judge_unswept, what_a_sweep_would_do
from prefect_extend_ai.cli.versions import require_deploy
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError, ExtendInputError
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.settings import ExtendSettings

__all__ = ["run_setup"]

SHIPPED_NAME = "extend"
"""The name of the block, the work pool and the deployments in the shipped prefect.yaml."""
Flag = Annotated[bool, Parameter(negative="", show_default=False)]


async def run_setup(
    *,
    name: BlockName = SHIPPED_NAME,
    pool: PoolName | None = None,
    kind: Annotated[tuple[KindOption, ...], Parameter(negative="", show_choices=True, show_default=False)] = (),
    paused: Flag = False,
    image: Annotated[str | None, Parameter(show_default=False)] = None,
    job_variable: JobVariable = (),
    block_only: Flag = False,
    resume: Flag = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", show_default=False)] = False,
) -> None:
    """Save the account as a Prefect block, create a work pool, and deploy a sweep with a schedule for each kind of run.

    Raises ExtendError where Prefect or the settings are in the way; the steps before that are not undone.

    Args:
        name: Name of the block and of its deployments; each account needs its own.
        pool: Work pool whose workers run the sweeps; created, of type process, if it does not exist. Without it,
            the one of the deployments under this name, or else extend.
        kind: Kind of run to sweep; can be repeated. Without it, the kinds that are deployed under this name, or else
            classify.
        paused: Leave the schedule of a new deployment off.
        image: Image of the flow runs, for a work pool of type docker, kubernetes and the like.
        job_variable: KEY=VALUE, a job variable of the deployments; can be repeated. A value may be JSON.
        block_only: Save the block only, for a deployment of your own that names it.
        resume: Resume what is paused: deployments, which the Prefect UI cannot do, and schedules that are off.
        yes: Overwrite a block that differs without confirmation.
    """
    if not block_only:
        require_deploy()
    console = Console(soft_wrap=True, highlight=False)
    variables = job_variables(job_variable) | ({"image": image} if image is not None else {})
    settings = ExtendSettings()
    async with prefect_api() as prefect:
        _say(console, "Prefect", f"{without_password(prefect.api_url)} answers")
        saved = await saved_block(prefect, name)
        credentials = saved if saved and settings.api_key is None else settings.credentials()
        await _try(credentials, "the saved block" if credentials is saved else "EXTEND_*")
        _say(console, "Extend", f"the key reads runs at {credentials.api_url}")
        kinds, there = await _existing(prefect, name, kinds_of(kind))
        await ExtendCredentials.aregister_type_and_schema(client=prefect)
        _say(console, "Block type", "Extend Credentials is registered")
        _say(console, "Block", await _save(console, prefect, name, saved, credentials, yes=yes))
        if block_only:
            return
        pools = [each.deployment.work_pool_name for each in there.values() if each.deployment.work_pool_name]
        pool = pool or next(iter(pools), SHIPPED_NAME)
        work_pool, created = await ensure_pool(prefect, pool, image=image)
        _say(console, "Work pool", f'"{pool}" {"created" if created else "exists"}, of type {work_pool.type}')
        kept = {name: Deployed.of(member.deployment, resume=resume) for name, member in there.items()}
        plan = deployment_plan(name, pool, kinds, kept, variables=variables, scheduled=not paused)
        for each in plan["deployments"][: len(kinds)]:
            _say(console, "Limit", await limit_words(credentials, each["parameters"]))
        same = deploy(plan, there)
        resumed = await _resume(prefect, there.values()) if resume else []
        fleet = await read_fleet(prefect)
        deployed = [each for each in fleet if each.name in {f"{SWEEP}/{deployment_name(name, kind)}" for kind in kinds}]
        for each in [*deployed, *(other for other in fleet if other.name in {f"{BY_IDS}/{name}", f"{ADVICE}/{name}"})]:
            what = "Resumed" if each.name in resumed else "Unchanged" if each.name in same else "Deployed"
            _say(console, what, f"{each.name}  {url_for('deployment', obj_id=each.deployment.id) or ''}")
        set_there = plan["deployments"][0]["work_pool"].get("job_variables", {})
        prefect_url = str(prefect.api_url)
        for note in image_notes(work_pool.type, set_there, api_url=credentials.api_url, prefect_url=prefect_url):
            _say(console, "Note", note)
        _say_what_stays(console, there, name, paused=paused, resume=resume)
        running = await has_worker(prefect, work_pool)
        await _say_what_comes(console, prefect, credentials, deployed, there, name=name, running=running)
        swept = {kind_of(each) for member in fleet if member.block == name for each in member.sweeps}
        unswept = await count_unswept(credentials, {each for each in [*swept, *kinds] if each is not None})
    for finding in judge_unswept(unswept, block=name):
        if finding.verdict is not Verdict.OK:
            _say(console, finding.subject, finding.text)
    scheduled = any(each.active for one in deployed if not one.deployment.paused for each in one.deployment.schedules)
    steps = next_steps(deployed[0].name, pool, own_pool=pool != SHIPPED_NAME, running=running, scheduled=scheduled)
    console.print(f"\n{steps}", markup=False)


async def _existing(
    prefect: PrefectClient, name: str, kinds: Sequence[RunKind]
) -> tuple[Sequence[RunKind], dict[str, Member]]:
    """The kinds to deploy, and the deployments that are there for them and for the cancel by ids.

    Raises ExtendInputError where a name is taken by a deployment for another kind or another block.
    """
    fleet = {each.name: each for each in await read_fleet(prefect)}
    mine = {kind: f"{SWEEP}/{deployment_name(name, kind)}" for kind in RunKind}
    wanted = kinds or [kind for kind, each in mine.items() if each in fleet] or [RunKind.CLASSIFY]
    for kind in wanted:
        if (found := fleet.get(mine[kind])) is None:
            continue
        if found.block not in (name, None):
            raise ExtendInputError(f'{found.name} sweeps with the block "{found.block}": choose another --name')
        if kinds and found.kind is not kind:
            raise ExtendInputError(
                f"{found.name} sweeps {found.kind} runs, by its parameters: set its kind to {kind} there "
                "(Prefect UI, Deployments, Edit), or choose another --name"
            )
    named = [*(mine[kind] for kind in wanted), f"{BY_IDS}/{name}", f"{ADVICE}/{name}"]
    return wanted, {each: fleet[each] for each in named if each in fleet}


def _say_what_stays(console: Console, there: Mapping[str, Member], name: str, *, paused: bool, resume: bool) -> None:
    before = [each.deployment for each in there.values()]
    if before:
        _say(console, "Kept", "parameters and schedules of the existing deployments")
    if paused and any(schedule.active for each in before for schedule in each.schedules):
        _say(console, "Schedules", "that were on are on: --paused is for new deployments")
    if not resume and any(each.paused for each in before):
        _say(console, "Paused", f"the sweep was paused, and still is: {_again(name)} --resume")


def _again(name: str) -> str:
    return "prefect-extend-ai setup" + ("" if name == SHIPPED_NAME else f" --name {name}")


async def _say_what_comes(
    console: Console,
    prefect: PrefectClient,
    credentials: ExtendCredentials,
    deployed: Sequence[Member],
    there: Container[str],
    *,
    name: str,
    running: bool,
) -> None:
    for member in deployed:
        parameters: Mapping[str, Any] = member.deployment.parameters
        kind = str(member.kind)
        found = await what_a_sweep_would_do(credentials, parameters)
        _say(console, "Stale now", stale_words(found, kind, parameters))
        active = [each for each in member.deployment.schedules if each.active]
        if not active:
            _say(console, "Schedule", f"of {kind} runs is off: {_again(name)} --resume switches it on")
        elif running and not member.deployment.paused and not parameters.get("dry_run"):
            at = await next_sweep(prefect, member.deployment)
            cancels = would_cancel(found, parameters)
            which = "Next sweep" if member.name in there else "First sweep"
            _say(console, which, when_words(kind, at, cancels, datetime.now(UTC)))
            stop = f"prefect deployment schedule pause {member.name} {active[0].id}"
            _say(console, "", f"not yet? {stop}")


async def _try(credentials: ExtendCredentials, source: str) -> None:
    """Raise ExtendError if the account, which is that of this source, cannot read runs: each sweep would fail."""
    try:
        credentials.ensure_usable()
        await newest(credentials)
    except ExtendError as error:
        problem = str(error)
    else:
        return
    raise ExtendError(f"nothing was saved, because Extend cannot be read with {source}: {problem}")


def _say(console: Console, what: str, how: str) -> None:
    console.print(f"{what:<12}{how}", markup=False)


async def _save(
    console: Console,
    prefect: PrefectClient,
    name: str,
    saved: ExtendCredentials | None,
    credentials: ExtendCredentials,
    *,
    yes: bool,
) -> str:
    if credentials is saved:
        return f'"{name}" is saved already, and is used, since EXTEND_API_KEY is not set'
    differing = differing_fields(saved, credentials) if saved else []
    if saved and not differing:
        return f'"{name}" is saved already, and equals EXTEND_*'
    if saved and not yes:
        what = f'The saved block "{name}" differs from EXTEND_* in {", ".join(differing)}'
        if not sys.stdin.isatty():
            raise ExtendInputError(f"{what}: --yes overwrites it, another --name leaves it alone")
        # Otherwise asyncio would handle Ctrl-C only after the question is answered.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not Confirm.ask(f"{what}. Overwrite it?", console=console, default=False):
            raise ExtendInputError(f'the block "{name}" is kept as it was, and nothing is deployed')
    await credentials.asave(name, overwrite=True, client=prefect)
    return f'"{name}" overwritten: {", ".join(differing)}' if saved else f'"{name}" saved'


async def _resume(prefect: PrefectClient, members: Collection[Member]) -> list[str]:
    """Switch on schedules that are off, but for those with parameters: Prefect would drop them. Which were paused."""
    resumed = [each.name for each in members if each.deployment.paused]
    for member in members:
        for schedule in member.deployment.schedules:
            if not schedule.active and not schedule.parameters:
                await prefect.update_deployment_schedule(member.deployment.id, schedule.id, active=True)
                resumed.append(member.name)
    return resumed
