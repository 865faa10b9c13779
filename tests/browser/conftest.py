"""A browser in front of a real Prefect with a worker, two sweeps of a sandbox already behind it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from prefect_extend_ai.cli.local_prefect import LocalPrefect
from prefect_extend_ai.sandbox import Served, World, serve
from support.ui import OUTPUT, PATIENCE_SECONDS, Stage, Ui

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

HOSTILE = (
    '</code></pre><img src=x onerror="owned=1"><script>owned=1</script>| [a](javascript:owned=1) ![p](//evil.example/p)'
)
"""A document's name that would like to be more than text."""


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrefect]:
    """A server of the browser's own: its pages show blocks and histories, and nobody else's may be among them."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from prefect_extend_ai.cli.local_prefect import run_local_prefect

    with (
        run_local_prefect(tmp_path_factory.mktemp("prefect")) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):
        yield server


@pytest.fixture(scope="session")
def stage(prefect_server: LocalPrefect) -> Iterator[Stage]:
    # The third run that is checked has ended meanwhile, and the fifth has moved.
    world = World.populated(runs=60, stuck=12, seed=1, troubles=("get:*:finish@3", "get:*:touch@5"))
    hostile = world.add(
        age_minutes=700, file_name=HOSTILE, metadata={HOSTILE: HOSTILE}, dashboardUrl="javascript:owned=1"
    )
    with serve(world) as sandbox, httpx.Client(base_url=prefect_server.api_url, trust_env=False) as prefect:
        deployment = asyncio.run(_prepare(sandbox))
        yield Stage(prefect_server, sandbox, deployment, hostile, prefect)


async def _prepare(sandbox: Served) -> str:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.types.entrypoint import EntrypointType

    from prefect_extend_ai import ExtendCredentials
    from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs

    credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url)
    await credentials.asave("extend")
    for dry_run in (True, False):
        await cancel_stale_runs(credentials, dry_run=dry_run)
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="extend", type="process"))
    # As prefect.yaml has it, but without the schedule, which would sweep in the middle of a test.
    deployment = await cancel_stale_runs.ato_deployment(
        "extend",
        parameters={"credentials": {"$ref": {"block_document_slug": "extend-credentials/extend"}}},
        tags=["extend"],
        work_pool_name="extend",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    by_ids = await cancel_runs.ato_deployment(
        "extend", work_pool_name="extend", entrypoint_type=EntrypointType.MODULE_PATH
    )
    await by_ids.aapply()
    return str(await deployment.aapply())


@pytest.fixture(scope="module")
def worker(stage: Stage) -> Iterator[None]:
    """A worker in a separate process, as users run it. It need not be up at once: Prefect keeps its flow runs."""
    OUTPUT.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "extend", "--type", "process"]
    environment = os.environ | stage.server.settings | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (OUTPUT / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=stage.server.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    yield
    for sign in (signal.SIGINT, signal.SIGKILL):
        process.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
            return


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium a module: while it runs, this thread's event loop is taken, which others need."""
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, CHROMIUM)), playwright.chromium.executable_path)
        if not Path(program).exists():
            pytest.skip("no Chromium: install the system's package, or `playwright install chromium`")
        expect.set_options(timeout=PATIENCE_SECONDS * 1000)
        launched = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def browser(stage: Stage, chromium: Browser) -> Browser:
    """The same, after the stage."""
    return chromium


@pytest.fixture
def ui(browser: Browser, stage: Stage, request: pytest.FixtureRequest) -> Iterator[Ui]:
    """A fresh tab; its last sight is kept in tests/output."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", locale="en-GB", timezone_id="UTC"
    )
    shown = Ui(context.new_page(), stage)
    yield shown
    OUTPUT.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    shown.page.screenshot(path=OUTPUT / f"{name}.png", full_page=True)
    context.close()
