"""A report of documents that were submitted again: the new run of each, its earlier ones, and what to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from support.ui import OUTPUT

FIRST, SECOND = "exr_first4mZ8Tq1yLw9RbKd", "exr_second7Hc2Vn5xPf3JsGa"
HEADLINE = (
    "Cancelled 4 of 4 stale extract runs; "
    "1 submitted again, 1 given up, 1 not submitted again, 1 may have been submitted again"
)
NEWS = "1 document may have been submitted again, or not."


def chained(replaces, attempt):
    return {
        "prefect_extend_resubmit_of": replaces,
        "prefect_extend_first_run": FIRST,
        "prefect_extend_attempt": attempt,
    }


@dataclass
class Swept:
    """What a sweep that submits again has cancelled, and the artifacts that it left."""

    given_up: str
    left_alone: str
    new: str
    artifacts: list


@pytest.fixture(scope="module", autouse=True)
def swept(stage):
    """A sweep of another kind than the stage's. It comes before the browser, which takes this thread's event loop."""
    from prefect_extend_ai import ExtendCredentials, StalePolicy
    from prefect_extend_ai.flows import cancel_stale_runs
    from prefect_extend_ai.sandbox import Behaviour, World, serve

    world = World(seed=7, behaviour=Behaviour(created_run_seconds=None), troubles=("create:*:503@1",))
    world.add("extract", "CANCELLED", id=FIRST, age_minutes=400)
    world.add("extract", "CANCELLED", id=SECOND, age_minutes=300, metadata=chained(FIRST, 1))
    world.add("extract", "PROCESSED", age_minutes=5)
    given_up = world.add("extract", age_minutes=140, metadata=chained(SECOND, 2))
    left_alone = world.add("extract", age_minutes=130, source="STUDIO")
    ours = [given_up, left_alone, *(world.add("extract", age_minutes=age) for age in (120, 110))]
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url)
        policy = StalePolicy(resubmit=2)
        state = asyncio.run(cancel_stale_runs(credentials, kind="extract", policy=policy, return_state=True))
    (new,) = [id_ for id_, run in world.runs.items() if (run.metadata or {}).get("prefect_extend_resubmit_of") in ours]
    written = {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}
    return Swept(given_up, left_alone, new, stage.read("/artifacts/filter", artifacts=written))


def artifact(swept, key):
    (found,) = [each for each in swept.artifacts if each["key"] == key]
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_shows_what_came_of_each_document(ui, swept, theme):
    ui.page.emulate_media(color_scheme=theme)
    page = ui.open_artifact(artifact(swept, "extend-sweep-extract"))
    expect(page.get_by_role("heading", name=HEADLINE)).to_be_visible()
    expect(page.get_by_role("paragraph").filter(has_text=NEWS)).to_be_visible()
    documents = page.get_by_role("table").filter(has_text="What is known")
    last = documents.get_by_role("row", name=swept.given_up)
    expect(last).to_contain_text("given up")
    expect(last).to_contain_text(f"{FIRST} (CANCELLED), {SECOND} (CANCELLED)")
    expect(documents.get_by_role("row", name=swept.new)).to_be_visible()
    expect(documents.get_by_role("row", name=swept.left_alone)).to_contain_text("not created over the API")
    expect(page.get_by_role("listitem").filter(has_text="prefect_extend_resubmit_of").last).to_be_visible()
    page.wait_for_timeout(500)
    OUTPUT.mkdir(exist_ok=True)
    page.screenshot(path=OUTPUT / f"resubmissions-{theme}.png", full_page=True)
    # No wider than the page of the artifact, beside which Prefect shows the flow run.
    width = "each => each.getBoundingClientRect().right"
    assert documents.evaluate(width) <= page.get_by_role("table").first.evaluate(width) + 1


def test_the_table_has_a_column_of_new_runs(ui, swept):
    page = ui.open_artifact(artifact(swept, "extend-sweep-extract-runs"))
    table = page.get_by_role("table")
    expect(table.get_by_role("row", name=swept.new)).to_contain_text("cancelled")
    expect(table.get_by_role("row", name=swept.given_up)).to_contain_text("given up")
    expect(table.get_by_role("columnheader", name="submitted_again")).to_have_count(1)


def test_the_record_of_a_last_attempt_has_the_chain(ui, swept):
    (record,) = [
        each for each in swept.artifacts if each["key"] is None and swept.given_up in (each["metadata_"] or {}).values()
    ]
    page = ui.open_artifact(record)
    facts = page.get_by_role("table").first
    expect(facts.get_by_role("row", name="Earlier runs of the document")).to_contain_text(SECOND)
    expect(facts.get_by_role("row", name="Submitted again given up")).to_be_visible()
