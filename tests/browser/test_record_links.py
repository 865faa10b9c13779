"""A record's link in a report opens the record at the run's heading.

By night, because on a busy machine Prefect's UI looks for the heading before it is there.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from playwright.sync_api import expect

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sandbox import World, serve

pytestmark = pytest.mark.nightly

MANY = 210
"""Enough runs for several to share a record."""


@pytest.fixture(scope="module", autouse=True)
def shared(stage):
    """A report, and a run far down in a record that several share.

    Swept before the browser, which takes this thread's event loop.
    """
    world = World(seed=31)
    world.add("split", "PROCESSED", age_minutes=5)
    for age in range(MANY):
        world.add("split", age_minutes=100 + age)
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=200)
        state = asyncio.run(cancel_stale_runs(credentials, kind="split", return_state=True))
    flow_run = {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}
    records = stage.read("/artifacts/filter", artifacts={"key": {"exists_": False}} | flow_run)
    (report,) = stage.read("/artifacts/filter", artifacts={"key": {"any_": ["extend-sweep-split"]}} | flow_run)
    # A report lists the first runs only; all are in its table.
    listed = [
        [
            run_id
            for name, run_id in each["metadata_"].items()
            if name.startswith("extend_run_") and run_id in report["data"]
        ]
        for each in records
    ]
    return report, max(listed, key=len)[-1]


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_a_record_link_opens_at_the_heading_of_its_run(ui, stage, shared, version):
    report, run_id = shared
    page = ui.open_artifact(report, version=version)
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=run_id, exact=True))
    href = row.get_by_role("link", name="record").get_attribute("href")
    heading = page.get_by_role("heading", name=f"Split run {run_id}")
    # Where a page takes long, the UI looks for the heading before it is there: opened again, it is.
    page.goto(href if version == "v1" else href.replace("/artifacts/", "/v2/artifacts/", 1))
    for _ in range(3):
        expect(heading).to_be_visible()
        with contextlib.suppress(AssertionError):
            expect(heading).to_be_in_viewport(timeout=10_000)
            return
        page.reload()
    expect(heading).to_be_in_viewport()
