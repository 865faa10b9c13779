"""A browser in front of a real Prefect with a worker, two sweeps of a sandbox already behind it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from prefect_extend_ai.cli.local_prefect import LocalPrefect
from prefect_extend_ai.sandbox import Served, World, serve

OUTPUT = Path(__file__).parents[1] / "output"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_SECONDS = 60
"""Machines that run tests are slow, and shared."""

HOSTILE = (
    '</code></pre><img src=x onerror="owned=1"><script>owned=1</script>| [a](javascript:owned=1) ![p](//evil.example/p)'
)
"""A document's name that would like to be more than text."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Prefect as a person finds it after two sweeps: a dry one and a real one, in which two runs got away."""

    server: LocalPrefect
    sandbox: Served
    deployment: str
    hostile: str
    prefect: httpx.Client

    def read(self, path: str, **filters: Any) -> Any:
        answer = self.prefect.post(path, json=filters) if filters else self.prefect.get(path)
        return answer.raise_for_status().json()

    def latest(self, key: str) -> dict[str, Any]:
        """The newest artifact under a key that the stage itself has written, whatever sweeps tests add."""
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [self.swept()["id"]]}}
        return self.read("/artifacts/filter", artifacts=wanted)[0]

    def record(self, run_id: str) -> dict[str, Any]:
        keyless = {"key": {"exists_": False}, "flow_run_id": {"any_": [self.swept()["id"]]}}
        artifacts = self.read("/artifacts/filter", artifacts=keyless)
        return next(each for each in artifacts if run_id in (each["metadata_"] or {}).values())

    def swept(self) -> dict[str, Any]:
        """The real one of the two sweeps."""
        return self.flow_runs({"deployment_id": {"is_null_": True}})[-1]

    def flow_runs(self, wanted: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Flow runs in the order in which they were made; without a filter, those of the deployment."""
        wanted = wanted or {"deployment_id": {"any_": [self.deployment]}}
        found = self.read("/flow_runs/filter", flow_runs=wanted)
        return sorted(found, key=lambda run: run["created"])


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
    from prefect_extend_ai.flows import cancel_stale_runs

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
    return str(await deployment.aapply())


@pytest.fixture(scope="module")
def worker(stage: Stage) -> Iterator[None]:
    """A worker of its own process, as people run it. It need not be up at once: Prefect keeps what it has to do."""
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
def browser(stage: Stage) -> Iterator[Browser]:
    """A Chromium a module, after the stage: while it runs, this thread's event loop is taken, which others need."""
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, CHROMIUM)), playwright.chromium.executable_path)
        if not Path(program).exists():
            pytest.skip("no Chromium: install the system's package, or `playwright install chromium`")
        expect.set_options(timeout=PATIENCE_SECONDS * 1000)
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Ui:
    """A tab in front of Prefect's UI.

    Attributes:
        page: the tab itself.
        asked: the address of every request that it made.
        said: what dialogs that popped up said.
    """

    def __init__(self, page: Page, stage: Stage) -> None:
        self.page = page
        self.stage = stage
        self.asked: list[str] = []
        self.said: list[str] = []
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", self._dismiss)
        # Prefect's UI asks for logos and statistics on the internet, and has to do without.
        page.route(re.compile("^http"), self._let_through)

    def _dismiss(self, dialog: Any) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()

    def _let_through(self, route: Route) -> None:
        if route.request.url.startswith(self.stage.server.url):
            route.continue_()
        else:
            route.abort()

    def open(self, path: str, *, version: str = "v2") -> Page:
        """Open a page of the new UI, or of the old one, which lives on next to it."""
        self.page.goto(f"{self.stage.server.url}{'/v2' if version == 'v2' else ''}{path}")
        return self.page

    def open_artifact(self, artifact: dict[str, Any], *, version: str = "v2") -> Page:
        return self.open(f"/artifacts/artifact/{artifact['id']}", version=version)

    def open_form(self) -> Page:
        """The deployment's run form, filled with its defaults."""
        self.open(f"/deployments/deployment/{self.stage.deployment}/run")
        self.field("policy (Optional)").locator("label").last.wait_for()
        return self.page

    def field(self, label: str) -> Locator:
        """A field of a form: its label, its description and its control."""
        exact = re.compile(f"^{re.escape(label)}$")
        return self.page.locator("label", has_text=exact).locator("xpath=ancestor::div[fieldset][1]")

    def choose(self, field: str, option: str) -> None:
        """Pick from a field's list."""
        self.open_list(field)
        self.page.get_by_role("option", name=option, exact=True).click()

    def open_list(self, field: str) -> Locator:
        """Open a field's list; the button that shows what is picked."""
        picked = self.field(field).locator("[data-slot=popover-trigger]")
        picked.click()
        return picked

    def save_block(self, name: str, *, api_key: str) -> None:
        """Fill in the block's form and save it."""
        self.page.get_by_label("Name", exact=True).fill(name)
        if api_key:
            self.page.get_by_label("API key", exact=True).fill(api_key)
        base_url = self.field("Base URL (Optional)")
        base_url.get_by_role("tab", name="str").click()
        base_url.get_by_role("textbox").fill(self.stage.sandbox.url)
        expect(self.page.get_by_label("Name", exact=True)).to_have_value(name)
        expect(base_url.get_by_role("textbox")).to_have_value(self.stage.sandbox.url)
        self.page.get_by_role("button", name="Save").click()
        self.page.wait_for_url("**/blocks/block/*")

    def submit(self) -> dict[str, Any]:
        """Submit the run form, and return the flow run that it made."""
        before = len(self.stage.flow_runs())
        self.page.get_by_role("button", name="Submit").click()
        return self.wait_for("flow run", lambda: self.stage.flow_runs()[before:])[0]

    def ended(self, flow_run: dict[str, Any]) -> dict[str, Any]:
        """The flow run, once it has ended."""

        def look() -> dict[str, Any] | None:
            now = self.stage.read(f"/flow_runs/{flow_run['id']}")
            return now if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        return self.wait_for("end of the flow run", look)

    def wait_for(self, what: str, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := look()):
            assert time.monotonic() < deadline, f"no {what} in {PATIENCE_SECONDS} seconds"
            self.page.wait_for_timeout(250)
        return found


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
