"""Prefect's UI in a browser, as a person finds it after two sweeps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, Route, expect

from prefect_extend_ai.cli.local_prefect import LocalPrefect
from prefect_extend_ai.sandbox import Served

OUTPUT = Path(__file__).parents[1] / "output"
CLICK_AGAIN_SECONDS = 20
PATIENCE_SECONDS = 60
"""Machines that run tests are slow, and shared."""


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
        return self.flow_runs({"deployment_id": {"is_null_": True}, "name": {"like_": "extend classify: "}})[-1]

    def flow_runs(self, wanted: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Flow runs in the order in which they were made; without a filter, those of the deployment."""
        wanted = wanted or {"deployment_id": {"any_": [self.deployment]}}
        found = self.read("/flow_runs/filter", flow_runs=wanted)
        return sorted(found, key=lambda run: run["created"])


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
        button = self.page.get_by_role("button", name="Submit")
        button.click()
        clicked = time.monotonic()

        def look() -> list[dict[str, Any]]:
            nonlocal clicked
            # On a busy machine a click is lost where the form is not ready: as long as it is shown, nothing was sent.
            if time.monotonic() - clicked > CLICK_AGAIN_SECONDS and button.is_visible():
                button.click()
                clicked = time.monotonic()
            return self.stage.flow_runs()[before:]

        return self.wait_for("flow run", look)[0]

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
