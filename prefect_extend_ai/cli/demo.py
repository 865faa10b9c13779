"""`prefect-extend-ai demo`: a sweep on this machine, with a sandbox of Extend and a real Prefect server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

from cyclopts import Parameter
from markdown_it import MarkdownIt
from prefect import aserve
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterId
from prefect.client.schemas.objects import State
from prefect.context import refresh_global_settings_context
from prefect.logging.configuration import setup_logging
from prefect.types.entrypoint import EntrypointType
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from prefect_extend_ai.cli.local_prefect import LocalPrefect, run_local_prefect
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.flows import advise_limits, cancel_runs, cancel_stale_runs
from prefect_extend_ai.prefect_io import record_url
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.rendering.words import age
from prefect_extend_ai.sandbox import API_KEY, Served, World, serve
from prefect_extend_ai.sweep.report import Cancellation, SweepFailed, SweepReport

__all__ = ["run_demo"]

RUNS = 80
STUCK = 20
HISTORY = 3000
"""Runs of a past week, which the advice on the limit is made of."""
LIMIT_MINUTES = 60
REQUESTS_PER_SECOND = 10
"""The limit of Extend's smallest plan, so that the demo takes as long as a real sweep."""
BLOCK = "demo"
TABLE_WIDTH = 140
"""Columns that the table of outcomes takes with the whole address of each record."""
NEW_STUCK_SECONDS = 30
"""How often another run gets stuck while the demo stays."""

STAYING = """
Your turn. Another run gets stuck every {seconds} seconds. To sweep them, open

    {sweep}

and click Run, then Quick run (or Custom run, to see the form).
To cancel runs by their ids, whatever their age:

    {by_id}

To see which limit is right for this account:

    {advice}

Ctrl-C stops everything."""


def run_demo(*, stay: Annotated[bool, Parameter(negative="", show_default=False)] = False) -> None:
    """Start a sandbox of Extend and a Prefect server, sweep the stuck runs, show the outcomes, stop everything.

    Requires no account and no network. Takes about half a minute.

    Args:
        stay: Keep everything running until Ctrl-C, with the flows deployed in the Prefect UI.
    """
    console = Console()
    world = World.populated(runs=RUNS, stuck=STUCK, seed=1, requests_per_second=REQUESTS_PER_SECOND)
    with (
        tempfile.TemporaryDirectory(prefix="prefect-extend-ai-") as home,
        _terminable(),
        contextlib.ExitStack() as stage,
    ):
        with console.status("Starting a Prefect server (about 10 seconds) ..."):
            server = stage.enter_context(run_local_prefect(Path(home)))
            running = stage.enter_context(serve(world))
            _use(server)
        console.print(f"Prefect UI       {server.url}")
        console.print(
            f"Extend sandbox   {running.url}: {RUNS} classify runs, {len(world.stale(LIMIT_MINUTES))} of them stale"
        )
        block_id = asyncio.run(_save_block(running))
        console.print(f'Block            "Extend Credentials", saved as "{BLOCK}"\n')
        asyncio.run(_play(console, world))
        if stay:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_stay(console, world, block_id))
            console.print("\nStopping ...")
    console.print("Everything that was started is stopped.")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that everything that was started is stopped."""
    earlier = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _use(server: LocalPrefect) -> None:
    """Point Prefect in this process and its children to the demo's server, whatever the user has configured."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "EXTEND_"))]:
        del os.environ[name]
    os.environ |= server.settings | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}
    refresh_global_settings_context()
    setup_logging(incremental=False)


async def _save_block(running: Served) -> UUID:
    credentials = ExtendCredentials(
        api_key=SecretStr(API_KEY), base_url=running.url, requests_per_second=REQUESTS_PER_SECOND
    )
    return await credentials.asave(BLOCK, overwrite=True)


async def _play(console: Console, world: World) -> None:
    """Run a dry sweep and a real one. Raises ExtendError where the real sweep does not end Completed."""
    credentials = await ExtendCredentials.aload(BLOCK)
    with console.status(f"A dry sweep: what has been processing for more than {LIMIT_MINUTES} minutes?"):
        state, _ = await _sweep(credentials, dry_run=True)
    _say_end(console, "Dry sweep", state)
    async with _progress(console, world):
        state, report = await _sweep(credentials, dry_run=False)
    _say_end(console, "Real sweep", state)
    await _show(console, report)
    await _advise(console, credentials, world)
    if not state.is_completed():
        raise ExtendError(f"the sweep ended {state.name}: {state.message}")


async def _advise(console: Console, credentials: ExtendCredentials, world: World) -> None:
    """Let the account have a week's history, and say which limit it asks for."""
    world.live(runs=HISTORY)
    with console.status("Advice on the limit, from a week of runs ..."):
        advice = await advise_limits(credentials, max_processing_minutes=LIMIT_MINUTES)
    console.print(f"\nAdvice           {advice.headline}", markup=False, soft_wrap=True, highlight=False)
    limits = ", ".join(f"{processor}: {minutes}" for processor, minutes in advice.minutes_by_processor.items())
    console.print(f"Limits for it    {limits}", markup=False, soft_wrap=True, highlight=False)


async def _sweep(credentials: ExtendCredentials, *, dry_run: bool) -> tuple[State, SweepReport]:
    state = await cancel_stale_runs(
        credentials, max_processing_minutes=LIMIT_MINUTES, dry_run=dry_run, return_state=True
    )
    result = await state.aresult(raise_on_failure=False)
    if isinstance(result, SweepFailed):
        result = result.report
    elif isinstance(result, BaseException):
        raise ExtendError(f"the sweep ended {state.name}: {state.message}") from result
    return state, result


@contextlib.asynccontextmanager
async def _progress(console: Console, world: World) -> AsyncIterator[None]:
    stale = world.stale(LIMIT_MINUTES)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("Cancelling", total=len(stale))

        def count() -> None:
            progress.update(bar, completed=sum(world.get(run_id).status != "PROCESSING" for run_id in stale))

        async def watch() -> None:
            while True:
                count()
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            count()


def _say_end(console: Console, title: str, state: State) -> None:
    style = "green" if state.is_completed() else "red"
    console.print(Text.assemble(f"{title:<17}", (state.name or "", style), f": {state.message}"))


async def _show(console: Console, report: SweepReport) -> None:
    table = Table("run", "age", "outcome", "record in Prefect", title="\nOutcome of each run", title_justify="left")
    for each in report.cancellations:
        table.add_row(Text(each.run_id), age(each.age_minutes), each.outcome, _link(each, console.width))
    console.print(table)
    recorded = next((each for each in report.cancellations if each.record), None)
    if recorded is not None:
        final = await _recorded_object(recorded)
        console.print(f"\nThe final object of {recorded.run_id}, as its record has it", style="italic", highlight=False)
        console.print_json(final)


def _link(each: Cancellation, width: int) -> Text:
    """The address of a run's record; where that would be cut, the beginning of its id as a link."""
    if each.record is None:
        return Text("")
    url = record_url(each.record)
    return Text(url) if width >= TABLE_WIDTH else Text(f"{str(each.record)[:8]}...", style=f"link {url}")


async def _recorded_object(recorded: Cancellation) -> str:
    """The JSON of one run out of its record in Prefect."""
    wanted = ArtifactFilterId(any_=[recorded.record] if recorded.record else [])
    async with get_client() as prefect:
        found = await prefect.read_artifacts(artifact_filter=ArtifactFilter(id=wanted))
    fences = [token.content for token in MarkdownIt().parse(str(found[0].data)) if token.type == "fence"]
    return next(fence for fence in fences if json.loads(fence).get("id") == recorded.run_id)


async def _stay(console: Console, world: World, block_id: UUID) -> None:
    """Serve the flows and let a run get stuck now and then, until Ctrl-C."""
    # By reference: Prefect keeps the block's id with the deployment and its runs, never the key.
    parameters = {"credentials": {"$ref": {"block_document_id": str(block_id)}}}
    served = [
        await flow.ato_deployment(BLOCK, parameters=parameters, entrypoint_type=EntrypointType.MODULE_PATH)
        for flow in (cancel_stale_runs, cancel_runs, advise_limits)
    ]
    # Applied here and again by aserve, which does not return the ids that the addresses below need.
    sweep, by_id, advice = [url_for("deployment", await deployment.aapply()) for deployment in served]
    # Without a frame and never wrapped, so that the addresses can be clicked.
    words = STAYING.format(sweep=sweep, by_id=by_id, advice=advice, seconds=NEW_STUCK_SECONDS)
    console.print(Text(words), soft_wrap=True, highlight=False)
    getting_stuck = asyncio.create_task(_keep_getting_stuck(world))
    try:
        await aserve(*served, print_starting_message=False)
    finally:
        getting_stuck.cancel()


async def _keep_getting_stuck(world: World) -> None:
    while True:
        world.add(age_minutes=LIMIT_MINUTES + 30)
        await asyncio.sleep(NEW_STUCK_SECONDS)
