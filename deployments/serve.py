"""Sweep on a schedule without a work pool: `python -m prefect_extend_ai.deployments.serve`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from cyclopts import App, Parameter, validators
from prefect import aserve
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.types.entrypoint import EntrypointType
from rich.console import Console

from prefect_extend_ai.cli.blocks import BlockName, block_reference, differing_fields, saved_block
from prefect_extend_ai.cli.command_line import main
from prefect_extend_ai.cli.reach import deployment_of, prefect_api
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.settings import ExtendSettings

__all__ = ["app", "serve_flows"]

AtLeastOne = Annotated[int, Parameter(validator=validators.Number(gte=1))]

app = App(
    name="python -m prefect_extend_ai.deployments.serve",
    help_format="plaintext",
    help_epilogue="Exit codes: 0 stopped, 1 it went wrong, 2 the command line was, 130 Ctrl-C.",
    version_flags=[],
)


@app.default
async def serve_flows(
    *,
    every: AtLeastOne = 15,
    limit: AtLeastOne = 60,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    name: BlockName = "extend",
) -> None:
    """Deploy both flows and carry out their runs in this process until Ctrl-C: no work pool, no worker.

    The account comes from EXTEND_API_KEY and its kin, or from .env, and is saved as a block of Prefect's; where the
    block is saved already, nothing need be set. The deployments refer to the block, and hold no key.

    Examples:
        python -m prefect_extend_ai.deployments.serve

        python -m prefect_extend_ai.deployments.serve --every 5 --limit 30 --dry-run

    Args:
        every: Minutes from one sweep to the next.
        limit: Minutes without a change after which a run in progress is stale.
        dry_run: The scheduled sweeps only look and report; nothing is cancelled.
        name: Name of the block and of both deployments.
    """
    console = Console(soft_wrap=True, highlight=False)
    await _ensure_block(console, name)
    account = {"credentials": block_reference(name)}
    by_module = EntrypointType.MODULE_PATH
    sweep = await cancel_stale_runs.ato_deployment(
        name,
        parameters=account | {"max_processing_minutes": limit, "dry_run": dry_run},
        tags=["extend"],
        entrypoint_type=by_module,
    )
    by_id = await cancel_runs.ato_deployment(name, parameters=account, tags=["extend"], entrypoint_type=by_module)
    # The schedule is applied here, without `active`: one that a person has paused stays paused, where a schedule given
    # to `ato_deployment` would be switched on with every start.
    schedule = {"schedule": IntervalSchedule(interval=timedelta(minutes=every)), "slug": "every-so-often"}
    async with prefect_api() as prefect:
        await _leave_alone_what_workers_run(prefect, name)
        pages = [await sweep.aapply(schedules=[schedule]), await by_id.aapply()]
    doing = "looks for" if dry_run else "cancels"
    console.print(
        f"Every {every} minutes a sweep {doing} runs in progress for more than {limit} minutes. Look and start runs at"
    )
    for page in pages:
        console.print(f"  {url_for('deployment', obj_id=page)}", markup=False)
    console.print("Ctrl-C stops it, and the schedule with it.")
    await aserve(sweep, by_id, print_starting_message=False)


async def _leave_alone_what_workers_run(prefect: PrefectClient, name: str) -> None:
    """Raise ExtendInputError where the sweep of this name has a work pool: it would run twice, and end up paused."""
    sweep = await deployment_of(prefect, "cancel-stale-runs", name)
    if sweep is not None and sweep.work_pool_name:
        raise ExtendInputError(
            f'cancel-stale-runs/{name} is deployed to the work pool "{sweep.work_pool_name}", whose workers run it: '
            "take another --name, or start a worker instead"
        )


async def _ensure_block(console: Console, name: str) -> None:
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
                "and without EXTEND_API_KEY it is used as it is"
            )


if __name__ == "__main__":
    main(commands=app)
