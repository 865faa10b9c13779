"""`prefect-extend-ai setup`: from an API key to a schedule."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml  # type: ignore[import-untyped]  # its stubs are a separate package
from cyclopts import Parameter
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from rich.console import Console
from rich.prompt import Confirm

from prefect_extend_ai.cli.blocks import BlockName, PoolName, block_reference, differing_fields, saved_block
from prefect_extend_ai.cli.check import newest
from prefect_extend_ai.cli.reach import deployment_of, prefect_api
from prefect_extend_ai.cli.references import FLOWS
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError, ExtendInputError
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.scan import take_survey
from prefect_extend_ai.sweep.staleness import StalePolicy

__all__ = ["Deployed", "deployment_plan", "run_setup"]

SHIPPED_NAME = "extend"
"""The name of the block, the work pool and the deployments in the shipped prefect.yaml."""
DEPLOYMENTS = files("prefect_extend_ai.deployments")
LOG_SHOWN = 1500
"""Characters of the end of a failed deploy's output that an error shows."""

NEXT = """\

Next, in another terminal: the worker. Once it has started, scheduled sweeps run, and cancel for real
  prefect worker start --pool {pool}
What a sweep would cancel, as a page in Prefect, while the worker runs
  prefect deployment run cancel-stale-runs/{name} --param dry_run=true --watch
Alarms, a message for each cancelled run, and an alarm when no sweep completes{renamed}
  prefect deploy --all --prefect-file {automations}
Later, from time to time
  prefect-extend-ai check{named}"""


async def run_setup(
    *,
    name: BlockName = SHIPPED_NAME,
    pool: PoolName = SHIPPED_NAME,
    block_only: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    resume: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", show_default=False)] = False,
) -> None:
    """Save the account as a Prefect block, create a work pool, and deploy the sweep with a schedule.

    Raises ExtendError where Prefect or the settings are in the way; the steps before that are not undone.

    Args:
        name: Name of the block and of both deployments; each account needs its own.
        pool: Work pool whose workers run the sweeps; created, of type process, if it does not exist.
        block_only: Save the block only, for a schedule of your own that names it.
        resume: Resume a paused deployment, which the Prefect UI cannot do.
        yes: Overwrite a block that differs without confirmation.
    """
    console = Console(soft_wrap=True, highlight=False)
    credentials = ExtendSettings().credentials()
    await _try(credentials)
    _say(console, "Extend", f"the key reads runs at {credentials.api_url}")
    async with prefect_api() as prefect:
        _say(console, "Prefect", f"{without_password(prefect.api_url)} answers")
        await ExtendCredentials.aregister_type_and_schema(client=prefect)
        _say(console, "Block type", "Extend Credentials is registered")
        _say(console, "Block", await _save(console, prefect, name, credentials, yes=yes))
        if block_only:
            return
        _say(console, "Work pool", await _ensure_pool(prefect, pool))
        there = {
            flow: Deployed(found.parameters, found.paused and not resume, bool(found.schedules))
            for flow in FLOWS
            if (found := await deployment_of(prefect, flow, name))
        }
        plan = deployment_plan(name, pool, there)
        _deploy(plan)
        for flow in FLOWS:
            deployed = await prefect.read_deployment_by_name(f"{flow}/{name}")
            _say(console, "Deployed", f"{flow}/{name}  {url_for('deployment', obj_id=deployed.id) or ''}")
    if there:
        _say(console, "Kept", "parameters and schedules of the existing deployments")
    named = "" if name == SHIPPED_NAME else f" --name {name}"
    if any(each.paused for each in there.values()):
        _say(console, "Paused", f"the sweep was paused, and still is: prefect-extend-ai setup{named} --resume")
    _say(console, "Stale now", await _stale_now(credentials, plan["deployments"][0]["parameters"]))
    automations = str(DEPLOYMENTS / "automations.yaml")
    own_names = (name, pool) != (SHIPPED_NAME, SHIPPED_NAME)
    renamed = f": put your block and work pool into a copy of\n  {automations}\nand deploy that" if own_names else ""
    console.print(
        NEXT.format(
            name=name,
            pool=pool,
            named=named,
            renamed=renamed,
            automations="automations.yaml" if own_names else automations,
        ),
        markup=False,
    )


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is kept of an existing deployment.

    Attributes:
        parameters: the parameters of its flow.
        paused: whether it is paused, and is to stay paused.
        scheduled: whether it has schedules, active or not.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False
    scheduled: bool = False


def deployment_plan(name: str, pool: str, there: Mapping[str, Deployed] | None = None) -> dict[str, Any]:
    """The shipped prefect.yaml for a block and a work pool of these names.

    Args:
        name: of the block and of both deployments.
        pool: the work pool.
        there: the existing deployments, by flow. Deploying them again keeps their parameters except the block, their
            schedules, by not naming any, and a pause, which Prefect 3.8 would end.
    """
    plan: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text("utf-8"))
    for deployment, flow in zip(plan["deployments"], FLOWS, strict=True):
        before = (there or {}).get(flow, Deployed())
        deployment["name"] = name
        deployment["work_pool"]["name"] = pool
        deployment["parameters"] |= {**before.parameters, "credentials": block_reference(name)}
        if before.paused:
            deployment["paused"] = True
        schedules = [each for each in deployment.pop("schedules", []) if each.get("active", True)]
        if schedules and not before.scheduled:
            deployment["schedules"] = schedules  # without the example for another workspace
    return plan


async def _try(credentials: ExtendCredentials) -> None:
    """Raise ExtendError if the account cannot read runs: each sweep with it would fail."""
    try:
        await newest(credentials)
    except ExtendError as error:
        problem = str(error)
    else:
        return
    raise ExtendError(f"nothing was saved, because Extend cannot be read with EXTEND_*: {problem}")


async def _stale_now(credentials: ExtendCredentials, parameters: Mapping[str, Any]) -> str:
    """What a sweep with these parameters would select now, as a sentence."""
    try:
        limit, kind = parameters["max_processing_minutes"], RunKind(parameters.get("kind", "classify"))
        async with credentials.get_client() as client:
            survey = await take_survey(client, kind, limit, StalePolicy(**parameters.get("policy", {})))
    except (ExtendError, TypeError, ValueError) as error:
        return f"not known: {str(error).splitlines()[0]}"
    if survey.refusal is not None:
        return f"the sweep would be refused: {survey.refusal}"
    stale = len(survey.stale)
    return (
        f"{stale} {kind} run{'' if stale == 1 else 's'}, of {survey.listed} listed: what the first sweep would cancel"
    )


def _say(console: Console, what: str, how: str) -> None:
    console.print(f"{what:<12}{how}", markup=False)


async def _save(
    console: Console, prefect: PrefectClient, name: str, credentials: ExtendCredentials, *, yes: bool
) -> str:
    saved = await saved_block(prefect, name)
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


async def _ensure_pool(prefect: PrefectClient, pool: str) -> str:
    try:
        found = await prefect.read_work_pool(pool)
    except ObjectNotFound:
        await prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        return f'"{pool}" created, of type process'
    return f'"{pool}" exists, of type {found.type}'


def _deploy(plan: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="prefect-extend-ai-") as folder:
        file = Path(folder, "prefect.yaml")
        file.write_text(json.dumps(plan), "utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = without_password(done.stdout + done.stderr).strip()[-LOG_SHOWN:]
        raise ExtendError(f"`prefect deploy` failed: {said}")
