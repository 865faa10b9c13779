"""What `prefect-extend-ai check` makes of what it sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from prefect_extend_ai.cli.findings import (
    LastSweep,
    Verdict,
    judge_clock,
    judge_holds,
    judge_last_sweep,
    judge_pending,
)
from prefect_extend_ai.client import Page
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.journal import CancelIntent
from prefect_extend_ai.sweep.policy import StalePolicy
from prefect_extend_ai.sweep.report import PendingCancel

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SWEPT = LastSweep(
    "brave-owl", "Completed", "Cancelled 3 of 3 stale classify runs", NOW - timedelta(minutes=7), completed=True
)
REFUSED = LastSweep("sad-owl", "Refused", "Refused, nothing was cancelled", NOW - timedelta(days=3), completed=False)
WELL = {
    "scheduled": True,
    "next_at": NOW + timedelta(minutes=8),
    "paused": None,
    "ready": True,
    "how_to_start": "start it",
    "now": NOW,
}


def a_page(extend, ours, *runs):
    return Page([Run.from_item("classify", {"id": "clr_1"} | run) for run in runs], 0, None, extend, ours)


@pytest.mark.parametrize("seconds", [-120, 0, 120])
def test_a_clock_within_two_minutes_agrees(seconds):
    assert judge_clock(a_page(NOW, NOW + timedelta(seconds=seconds))).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("ours", "changed", "said"),
    [
        (5, 0, "5 minutes behind the local one. The local clock is likely"),
        (-180, 1, "3 hours ahead of the local one. The local clock is likely"),
        (-180, 181, "3 hours ahead of the local one. Extend's is likely"),
        (-180, 500, "3 hours ahead of the local one. The times of the runs do not show"),
    ],
)
def test_a_wrong_clock_is_reported_with_how_far_and_whose(ours, changed, said):
    run = {"updatedAt": (NOW - timedelta(minutes=changed)).isoformat()}
    finding = judge_clock(a_page(NOW, NOW + timedelta(minutes=ours), run))
    assert finding.verdict is Verdict.WARN
    assert finding.text.startswith(f"Extend's clock is {said}")


def test_a_response_without_a_date_stops_every_sweep():
    assert judge_clock(a_page(None, NOW)).verdict is Verdict.FAIL


def test_metadata_that_only_looks_like_a_hold_is_reported():
    runs = [Run.from_item("classify", {"id": f"clr_{n}", "metadata": m}) for n, m in enumerate([{}, {"ops_hold": 1}])]
    finding = judge_holds(runs, StalePolicy())
    assert finding.verdict is Verdict.WARN
    assert "1 run in progress, clr_1 the oldest" in finding.text
    assert "the hold key is prefect_hold" in finding.text
    assert judge_holds(runs, StalePolicy(hold_key="ops.hold")) is not None
    assert judge_holds(runs, StalePolicy(hold_key="ops_hold")) is None


def test_a_recent_good_sweep_and_the_next_one_due_is_well():
    finding = judge_last_sweep(SWEPT, **WELL)
    assert finding.verdict is Verdict.OK
    assert finding.text == (
        "7 minutes ago: Completed, Cancelled 3 of 3 stale classify runs; the next is due in 8 minutes"
    )


def test_a_sweep_that_did_not_end_well_is_named():
    finding = judge_last_sweep(REFUSED, **WELL)
    assert finding.verdict is Verdict.FAIL
    assert finding.text == "3 days ago: Refused, Refused, nothing was cancelled (flow run sad-owl)"


def test_a_sweep_without_its_block_says_what_to_do():
    said = "Validation of flow parameters failed with error: Failed to resolve block references in parameters."
    finding = judge_last_sweep(replace(REFUSED, state="Failed", message=said), **WELL)
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith(
        "the block it names does not exist: save it again, or name another in the deployment's parameters"
    )


def test_a_sweep_that_is_still_pending_is_a_warning():
    pending = replace(SWEPT, state="StillPending", message="No stale classify runs; 3 cancels pending")
    finding = judge_last_sweep(pending, **WELL)
    assert finding.verdict is Verdict.WARN
    assert "3 cancels pending; cancels of earlier sweeps are still pending" in finding.text
    assert judge_last_sweep(pending, **WELL | {"ready": False}).verdict is Verdict.FAIL


@pytest.mark.parametrize("last", [SWEPT, None])
def test_without_a_worker_it_says_how_to_start_one(last):
    finding = judge_last_sweep(last, **WELL | {"ready": False})
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith("no worker is running: start it")


def test_a_paused_deployment_hides_no_sweep_that_failed():
    paused = WELL | {"paused": "the work pool is paused: resume it", "ready": False}
    finding = judge_last_sweep(SWEPT, **paused)
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith("; no sweep will run: the work pool is paused: resume it")
    assert "flow run sad-owl" in judge_last_sweep(REFUSED, **paused).text


def test_a_watchdog_without_a_schedule_is_off():
    finding = judge_last_sweep(SWEPT, **WELL | {"scheduled": False})
    assert finding.verdict is Verdict.FAIL
    assert "no schedule is active" in finding.text


def test_before_the_first_sweep_it_says_when_that_is_due():
    finding = judge_last_sweep(None, **WELL)
    assert (finding.verdict, finding.text) == (Verdict.WARN, "no sweep has run yet; the next is due in 8 minutes")


def test_a_schedule_without_runs_yet_is_active():
    assert judge_last_sweep(SWEPT, **WELL | {"next_at": None}).text.endswith("; a schedule is active")


def intent(*run_ids, kind="classify", hours=5, known=None, **scope):
    scope = {"kind": kind, "api_url": "https://api.extend.ai"} | scope
    return CancelIntent(
        id=uuid4(), scope=scope, run_ids=run_ids, opened_at=NOW - timedelta(hours=hours), known=known or {}
    )


def test_what_is_pending_is_reported_by_kind_and_account():
    block = ExtendCredentials(api_key="sk_1")
    aside = PendingCancel(run_id="clr_2", since=NOW - timedelta(days=3), attempts=4, set_aside=True)
    open_ = [
        intent("clr_1"),
        intent("clr_2", known={"clr_2": aside}),
        intent("exr_1", kind="extract", hours=2),
        intent("clr_7", "clr_8", workspace_id="ws_2"),
        intent("clr_9", api_url="https://elsewhere.example.com", hours=50),
        intent("clr_0", hours=0),
    ]
    found = judge_pending(open_, block, NOW)
    assert [each.text for each in found] == [
        (
            "2 classify runs of earlier sweeps still pending, the oldest for 3 days, 1 of them set aside: "
            "the last report lists them"
        ),
        "1 extract run of earlier sweeps still pending, the oldest for 2 hours: the last report lists them",
        (
            "2 cancel intents with 3 runs of another workspace or address pending for 2 days: "
            "a sweep whose account can read them recovers them"
        ),
    ]
    assert judge_pending([], block, NOW) == []
