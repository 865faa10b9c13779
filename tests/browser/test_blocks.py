"""From an empty form to a sweep, by clicking alone."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def name():
    """A name for a block that no earlier attempt of the same test has taken."""
    return f"clicked-{uuid4().hex[:8]}"


def test_a_block_made_in_the_ui_can_be_picked_and_sweeps(ui, stage, name):
    for minutes in (90, 200, 3000):
        stage.sandbox.world.add(age_minutes=minutes)
    stuck = stage.sandbox.world.stale()

    page = ui.open("/blocks/catalog")
    card = page.locator("[data-slot=card]", has_text="Extend Credentials")
    expect(card).to_contain_text("The Extend account")
    card.get_by_role("link", name="Create").click()
    ui.save_block(name, api_key="sk_sandbox")
    expect(page.get_by_text(name).first).to_be_visible()

    ui.open_form()
    ui.choose("credentials", name)
    flow_run = ui.ended(ui.submit())

    message = f"Cancelled {len(stuck)} of {len(stuck)} stale classify runs"
    assert flow_run["state"]["message"] == message
    assert [stage.sandbox.world.get(run_id).status for run_id in stuck] == ["CANCELLED"] * len(stuck)
    assert list(flow_run["parameters"]["credentials"]) == ["$ref"]

    ui.open(f"/runs/flow-run/{flow_run['id']}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    expect(page.get_by_text(f"{name} classify: cancelled {len(stuck)} of {len(stuck)}").first).to_be_visible()
    expect(page.get_by_text(re.compile(re.escape(message))).first).to_be_visible()


def test_a_block_saved_without_a_key_says_so_when_a_flow_starts(ui, stage, name):
    ui.open("/blocks/catalog/extend-credentials/create")
    ui.save_block(name, api_key="")
    requests = len(stage.sandbox.world.journal)

    ui.open_form()
    ui.choose("credentials", name)
    flow_run = ui.ended(ui.submit())

    assert flow_run["state_name"] == "Failed"
    assert len(stage.sandbox.world.journal) == requests
    page = ui.open(f"/runs/flow-run/{flow_run['id']}")
    expect(page.get_by_text("the API key is empty. Fix the Extend Credentials block").first).to_be_visible()
