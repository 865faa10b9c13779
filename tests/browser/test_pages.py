"""What a sweep leaves behind is read at a glance, in both of Prefect's UIs, and is nothing but text."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

HEADLINE = "Cancelled 11 of 13 stale classify runs; 1 finished first; 1 spared"
both = pytest.mark.parametrize("version", ["v2", pytest.param("v1", marks=pytest.mark.nightly)])


def links(page, within: str = "body") -> list[str]:
    return page.locator(f"{within} a").evaluate_all("all => all.map(a => a.href)")


@both
def test_the_report_says_what_happened_shows_it_and_leads_on(ui, stage, version: str):
    page = ui.open_artifact(stage.latest("extend-sweep-classify"), version=version)
    expect(page.get_by_role("heading", name=HEADLINE)).to_be_visible()
    expect(page.get_by_text("No action required.", exact=True)).to_be_visible()
    expect(page.get_by_role("table")).to_have_count(2)
    numbers, runs = page.get_by_role("table").all()
    expect(numbers.get_by_role("row", name="selected 13")).to_be_visible()
    expect(numbers.get_by_role("row", name="left out: held")).to_be_visible()
    expect(numbers.get_by_role("row", name="cancelled 11 13 selected")).to_be_visible()

    picture = page.locator("img[src^='data:image/svg+xml']")
    expect(picture).to_be_visible()
    assert picture.evaluate("picture => picture.naturalWidth") > 0

    expect(runs.get_by_role("row")).to_have_count(14)
    row = runs.get_by_role("row", name="finished first")
    run_id = row.get_by_role("link").first.inner_text()
    expect(row.get_by_role("link", name=run_id)).to_have_attribute("href", f"https://dashboard.extend.ai/runs/{run_id}")
    expect(page.get_by_role("link", name="flow run", exact=True)).to_have_attribute(
        "href", f"{stage.server.url}/runs/flow-run/{stage.swept()['id']}"
    )
    page.goto(row.get_by_role("link", name="record").get_attribute("href"))
    expect(page.get_by_role("heading", name=f"Classify run {run_id}")).to_be_visible()
    expect(page.get_by_text("This run ended before a cancel took effect.", exact=True)).to_be_visible()


@both
def test_the_record_has_the_facts_and_the_whole_final_object(ui, stage, version: str):
    world = stage.sandbox.world
    run_id = next(
        run_id for run_id, run in world.runs.items() if run.cancels and run_id != stage.hostile and run.file_name
    )
    page = ui.open_artifact(stage.record(run_id), version=version)
    expect(page.get_by_role("heading", name=f"Classify run {run_id}")).to_be_visible()
    expect(page.get_by_text("This run was cancelled.", exact=True)).to_be_visible()
    facts = page.get_by_role("table").first
    expect(facts.get_by_role("row", name="Status CANCELLED")).to_be_visible()
    expect(facts.get_by_role("row", name="File")).to_contain_text(world.get(run_id).file_name)
    expect(facts.get_by_role("link", name="open in Extend")).to_have_attribute(
        "href", f"https://dashboard.extend.ai/runs/{run_id}"
    )
    assert json.loads(page.locator("pre code").first.inner_text()) == world.full(run_id)


@both
def test_the_history_of_the_report_is_the_history_of_sweeps(ui, stage, version: str):
    page = ui.open("/artifacts/key/extend-sweep-classify", version=version)
    flow_runs = stage.flow_runs({"name": {"like_": "extend classify: "}})
    for flow_run in flow_runs[:2]:
        path = f"/runs/flow-run/{flow_run['id']}"
        expect(page.locator(f"a[href$='{path}']").first).to_have_text(flow_run["name"])
    page.get_by_role("link", name=stage.latest("extend-sweep-classify")["id"][:8]).click()
    expect(page.get_by_role("heading", name=HEADLINE)).to_be_visible()


@both
def test_the_table_is_searched_for_a_run(ui, stage, version: str):
    page = ui.open_artifact(stage.latest("extend-sweep-classify-runs"), version=version)
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows.nth(10)).to_contain_text("cancelled")
    search = page.get_by_placeholder("Search")

    def found() -> bool:
        # What is typed while the page still settles is forgotten by it.
        search.fill("finished_first")
        page.wait_for_timeout(500)
        return rows.count() == 2

    ui.wait_for("single row", found)
    expect(rows.last).to_contain_text("PROCESSED")


@both
@pytest.mark.parametrize("where", ["record", "report", "table"])
def test_a_hostile_document_stays_text(ui, stage, version: str, where: str):
    artifacts = {
        "record": stage.record(stage.hostile),
        "report": stage.latest("extend-sweep-classify"),
        "table": stage.latest("extend-sweep-classify-runs"),
    }
    page = ui.open_artifact(artifacts[where], version=version)
    expect(page.get_by_text(stage.hostile).first).to_be_visible()
    if where == "record":
        expect(page.get_by_role("row", name="File")).to_contain_text('<img src=x onerror="owned=1">')
        assert json.loads(page.locator("pre code").first.inner_text()) == stage.sandbox.world.full(stage.hostile)
    page.wait_for_timeout(500)
    assert page.evaluate("typeof owned") == "undefined"
    assert ui.said == []
    assert not [address for address in ui.asked if "evil.example" in address]
    assert not [address for address in links(page) if address.startswith("javascript:") or "evil.example" in address]
    assert page.locator("img[src=x], img[src*=evil]").count() == 0
