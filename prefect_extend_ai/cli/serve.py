"""`prefect-extend-ai serve`: sweep on a schedule without a work pool."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter, validators
from prefect import aserve
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.types.entrypoint import EntrypointType
from rich.console import Console

from prefect_extend_ai.cli.blocks import (
    BlockName,
    KindOption,
    block_reference,
    deployment_name,
    differing_fields,
    kinds_of,
    saved_block,
)
from prefect_extend_ai.cli.reach import deployment_of, prefect_api
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.settings import ExtendSettings

__all__ = ["run_serve"]

AtLeastOne = Annotated[int, Parameter(validator=validators.Number(gte=1))]


async def run_serve(
    *,
    every: AtLeastOne = 15,
    limit: AtLeastOne = 60,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    kind: Annotated[tuple[KindOption, ...], Parameter(negative="", show_choices=True, show_default=", ".join)] = (
        "classify",
    ),
    name: BlockName = "extend",
) -> None:
    """Deploy a sweep for each kind and the cancel by ids, and execute their runs in this process until Ctrl-C.

    Raises ExtendError where Prefect or the settings are in the way.

    Args:
        every: Minutes from one sweep to the next.
        limit: Minutes without a change after which a run in progress is stale.
        dry_run: Scheduled sweeps select and report; they cancel nothing.
        kind: Kind of run to sweep; can be repeated.
        name: Name of the block and of its deployments.
    """
    console = Console(soft_wrap=True, highlight=False)
    await _ensure_block(console, name)
    kinds = kinds_of(kind)
    account = {"credentials": block_reference(name)}
    by_module = EntrypointType.MODULE_PATH
    sweeps = [
        await cancel_stale_runs.ato_deployment(
            deployment_name(name, each),
            parameters=account | {"kind": each.value, "max_processing_minutes": limit, "dry_run": dry_run},
            tags=["extend"],
            entrypoint_type=by_module,
        )
        for each in kinds
    ]
    by_id = await cancel_runs.ato_deployment(name, parameters=account, tags=["extend"], entrypoint_type=by_module)
    # The schedule is applied here, without `active`: one that a person has paused stays paused, where a schedule given
    # to `ato_deployment` would be switched on with every start.
    now = datetime.now(UTC)
    interval = timedelta(minutes=every)
    async with prefect_api() as prefect:
        for sweep in sweeps:
            await _refuse_if_workers_run_it(prefect, sweep.name)
        deployed = []
        for number, sweep in enumerate(sweeps):
            # A minute after the one before: on SQLite, sweeps that write at once can stall Prefect's server.
            begin = IntervalSchedule(interval=interval, anchor_date=now + timedelta(minutes=number))
            deployed.append(await sweep.aapply(schedules=[{"schedule": begin, "slug": "every-so-often"}]))
        deployed.append(await by_id.aapply())
    action = "lists" if dry_run else "cancels"
    named = kinds[0].value if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    console.print(
        f"Every {every} minutes a sweep {action} {named} runs in progress for more than {limit} minutes. Deployments:"
    )
    for each in deployed:
        console.print(f"  {url_for('deployment', obj_id=each)}", markup=False)
    console.print("Ctrl-C stops this process and pauses the deployments.")
    await aserve(*sweeps, by_id, print_starting_message=False)


async def _refuse_if_workers_run_it(prefect: PrefectClient, name: str) -> None:
    """Raise ExtendInputError where the sweep of this name has a work pool: it would run twice, and end up paused."""
    sweep = await deployment_of(prefect, "cancel-stale-runs", name)
    if sweep is not None and sweep.work_pool_name:
        raise ExtendInputError(
            f'cancel-stale-runs/{name} is deployed to the work pool "{sweep.work_pool_name}", whose workers run it: '
            "choose another --name, or start a worker instead"
        )


async def _ensure_block(console: Console, name: str) -> None:
    """Save the block from EXTEND_*, or use the saved one. Raises ExtendInputError where the two differ."""
    settings = ExtendSettings()
    async with prefect_api() as prefect:
        saved = await saved_block(prefect, name)
        if saved is None:
            await settings.credentials().asave(name)
            console.print(f'Saved the block "{name}" from EXTEND_*.')
        elif settings.api_key is None:
            saved.ensure_usable()
            console.print(f'Using the saved block "{name}".')
        elif differing := differing_fields(saved, settings.credentials()):
            raise ExtendInputError(
                f'the saved block "{name}" differs from EXTEND_* in {", ".join(differing)}: '
                f"`prefect-extend-ai setup --block-only --name {name}` overwrites it, another --name leaves it alone, "
                "and without EXTEND_API_KEY the saved one is used"
            )
