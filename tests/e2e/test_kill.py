"""SIGKILL at every step of a real sweep: what was cancelled is recorded by the next one, once."""

from __future__ import annotations

import pytest

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sandbox import serve
from support.killing import killed

STEPS = [
    ("note", 1, "after"),
    ("cancel", 1, "after"),
    ("record", 1, "before"),
    ("close", 1, "after"),
]
AT_NIGHT = [
    ("list", 1, "after"),
    ("check", 2, "after"),
    ("record", 2, "after"),
    ("delete", 1, "after"),
    ("report", 1, "after"),
]


@pytest.mark.parametrize(
    "killed_at",
    [*STEPS, *(pytest.param(step, marks=pytest.mark.nightly) for step in AT_NIGHT)],
    ids=lambda at: f"{at[2]} {at[0]} {at[1]}",
)
async def test_a_sweep_killed_at_this_step_loses_nothing(prefect_server, proxied, sweeping, kept, killed_at):
    step, (artifacts, stuck) = killed_at[0], kept
    # The first cancel is seen at once; others may still be under way when the sweep dies.
    world = stuck(4, troubles=["cancel:*:slow=0.5@2-4"])
    with serve(world) as sandbox:
        extend, prefect = proxied(sandbox.url), proxied(prefect_server.api_url)
        # What is killed has no coverage to tell.
        await killed(
            lambda: sweeping(extend.url, api_url=prefect.url, COVERAGE_PROCESS_CONFIG=""), extend, prefect, killed_at
        )
        cancelled = {run_id for run_id in world.runs if world.get(run_id).status == "CANCELLED"}
        assert len(cancelled) == 4 or step in ("list", "note", "check", "cancel", "record")
        recorded = len(artifacts.records().keys() & world.runs.keys())
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=extend.url, requests_per_second=100)
        report = await cancel_stale_runs(credentials)

        assert artifacts.holds_each_once(world)
        # Each run was recorded by the dead sweep, recovered from it, or selected by this one, and only one of these.
        # A cancel that was on its way when the process died may take effect after it was counted, never undo one.
        assert recorded + len(report.recovered) + report.selected == 4
        assert report.selected <= 4 - len(cancelled)
        assert artifacts.open_intents(extend.url) == []
