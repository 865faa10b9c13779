"""Lists of flow runs, the history of sweeps and a sweep's progress are read at a glance."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading

import pytest
from playwright.sync_api import expect

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sandbox import World, serve

STALE = (3, 0, 0, 5, 1, 0, 12, 7, 0, 0, 0, 2)
"""How many runs each of a dozen sweeps finds."""
SLOW = 120
"""Runs of a sweep that takes a quarter of a minute, at ten requests a second."""


looks = pytest.mark.parametrize(
    ("version", "theme"),
    [
        ("v2", "light"),
        *(pytest.param(*each, marks=pytest.mark.nightly) for each in (("v2", "dark"), ("v1", "light"), ("v1", "dark"))),
    ],
)


def begin(do):
    """Run a coroutine beside the browser, whose own loop is in this thread."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(asyncio.run, do()))
    thread.start()
    return thread


class Globex:
    """A workspace with a history, on the stage's Prefect."""

    def __init__(self, sandbox):
        self.sandbox, self.world = sandbox, sandbox.world

    def add(self, runs, **facts):
        self.world.add("extract", status="PROCESSED", age_minutes=1)
        return [self.world.add("extract", age_minutes=120, **facts) for _ in range(runs)]

    async def sweep(self, requests_per_second=100):
        block = await ExtendCredentials.aload("globex")
        block.requests_per_second = requests_per_second
        return await cancel_stale_runs(block, kind="extract", return_state=True)


@pytest.fixture(scope="module")
def globex(stage):
    async def prepare():
        await ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url).asave("globex")
        for place, stale in enumerate(STALE):
            found.add(stale)
            if place == len(STALE) - 2:
                found.add(1, id="exr_refused")
            await found.sweep()

    with serve(World(seed=21, troubles=["cancel:exr_refused:400"])) as sandbox:
        found = Globex(sandbox)
        begin(prepare).join()
        yield found


@looks
def test_the_list_of_flow_runs_says_what_each_did(ui, globex, version, theme):
    ui.page.emulate_media(color_scheme=theme)
    page = ui.open("/runs", version=version)
    expect(page.get_by_text("globex extract: cancelled 12 of 12").first).to_be_visible()
    expect(page.get_by_text(re.compile("^globex extract$")).first).to_be_visible()


@looks
def test_the_report_shows_the_last_sweeps_as_bars(ui, stage, globex, version, theme):
    ui.page.emulate_media(color_scheme=theme)
    newest = stage.read("/artifacts/filter", artifacts={"key": {"any_": ["extend-sweep-extract"]}}, sort="CREATED_DESC")
    page = ui.open_artifact(newest[0], version=version)
    expect(page.get_by_role("heading", name=f"Last {len(STALE)} sweeps")).to_be_visible()
    strip = page.get_by_alt_text(re.compile(f"{sum(STALE)} cancelled, 1 failed in {len(STALE)} sweeps"))
    expect(strip).to_be_visible()
    assert strip.evaluate("picture => picture.naturalWidth") == 640


@looks
def test_a_flow_runs_page_shows_how_far_it_is(ui, stage, globex, version, theme):
    ui.page.emulate_media(color_scheme=theme)
    globex.add(SLOW)
    sweeping = begin(lambda: globex.sweep(requests_per_second=10))
    try:
        asked = {"flow_runs": {"name": {"any_": ["globex extract"]}, "state": {"type": {"any_": ["RUNNING"]}}}}
        (flow_run,) = ui.wait_for("sweep", lambda: stage.read("/flow_runs/filter", **asked))
        page = ui.open(f"/runs/flow-run/{flow_run['id']}", version=version)
        done = page.get_by_text(re.compile(rf"^\d+ of {SLOW} runs done in"))
        expect(done.first).to_be_visible()
        expect(done.nth(3)).to_be_visible()
        sweeping.join()
        if version == "v2":
            page.get_by_role("tab", name="Artifacts").click()
        # The older UI shows logs after a reload, and the newest of them last.
        last = done.first if version == "v2" else done.last
        ui.wait_for("end of it", lambda: page.reload() and last.inner_text().startswith(f"{SLOW} of {SLOW} "))
    finally:
        sweeping.join()
