"""A link to a run's events shows a week of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from prefect_extend_ai import RunKind
from prefect_extend_ai.prefect_io.links import events_url, run_resource

both = pytest.mark.parametrize("version", ["v2", pytest.param("v1", marks=pytest.mark.nightly)])


@both
def test_an_events_link_shows_a_week_of_them(ui, stage, version):
    from prefect.settings import PREFECT_UI_URL, temporary_settings

    run_id = f"clr_days_ago_{version}"
    occurred = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    event = {
        "id": str(uuid4()),
        "occurred": occurred,
        "event": "extend.classify_run.cancelled",
        "resource": {"prefect.resource.id": run_resource(RunKind.CLASSIFY, run_id), "prefect.resource.name": run_id},
        "payload": {},
    }
    stage.prefect.post("/events", json=[event]).raise_for_status()
    wanted = {"resource": {"id": [run_resource(RunKind.CLASSIFY, run_id)]}, "occurred": {"since": occurred}}
    ui.wait_for("event", lambda: stage.read("/events/filter", filter=wanted)["events"])
    with temporary_settings({PREFECT_UI_URL: f"{stage.server.url}{'/v2' if version == 'v2' else ''}"}):
        page = ui.page
        page.goto(events_url(RunKind.CLASSIFY, run_id))
    expect(page.get_by_role("link", name="Extend classify run cancelled").first).to_be_visible()
