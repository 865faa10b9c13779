"""The verdict on a deployment: does it watch, and for real?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.cli.watch import LastSweep, PastRun, ScheduleFacts, Watch, judge_schedules, judge_watch

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SWEPT = LastSweep(
    "brave-owl", "Completed", "Cancelled 3 of 3 stale classify runs", NOW - timedelta(minutes=7), completed=True
)
REFUSED = LastSweep("sad-owl", "Refused", "Refused, nothing was cancelled", NOW - timedelta(days=3), completed=False)
ON, OFF = ScheduleFacts("1-2", "every-15-minutes", True, {}), ScheduleFacts("1-2", "every-15-minutes", False, {})
ACCOUNT = {"credentials": {"$ref": {"block_document_slug": "extend-credentials/extend"}}, "kind": "classify"}
OTHER = ACCOUNT | {"kind": "extract", "max_processing_minutes": 120}
WELL = Watch(
    name="cancel-stale-runs/extend",
    kind="classify",
    block="extend",
    last=SWEPT,
    schedules=[ON],
    next_at=NOW + timedelta(minutes=8),
    worker='worker on pool "extend"',
    how_to_start="start it",
    parameters=ACCOUNT,
    updated=NOW - timedelta(days=9),
)


def judge(real=(), **changes):
    return judge_watch(replace(WELL, **changes), NOW, real)


def test_a_recent_good_sweep_and_the_next_one_due_is_ok():
    finding = judge()
    assert finding.verdict is Verdict.OK
    assert finding.text == (
        "cancel-stale-runs/extend: classify runs of block extend; last sweep 7 min ago: Completed, Cancelled 3 of "
        '3 stale classify runs; the next is due in 8 min, worker on pool "extend"'
    )


def test_a_sweep_that_did_not_end_well_is_named():
    finding = judge(last=REFUSED)
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith(
        "last sweep 3 d ago: Refused, Refused, nothing was cancelled (flow run sad-owl); the next is due in 8 min"
    )


def test_a_sweep_without_its_block_says_what_to_do():
    said = "Validation of flow parameters failed with error: Failed to resolve block references in parameters."
    finding = judge(last=replace(REFUSED, state="Failed", message=said))
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith(
        "the block it names does not exist: save it again, or name another in the deployment's parameters; "
        "the next is due in 8 min"
    )


def test_a_sweep_that_is_still_pending_is_a_warning():
    pending = replace(SWEPT, state="StillPending", message="No stale classify runs; 3 cancels pending")
    finding = judge(last=pending)
    assert finding.verdict is Verdict.WARN
    assert "3 cancels pending; cancels of earlier sweeps are still pending" in finding.text
    assert judge(last=pending, ready=False).verdict is Verdict.FAIL


@pytest.mark.parametrize("last", [SWEPT, None])
def test_without_a_worker_it_says_how_to_start_one(last):
    finding = judge(last=last, ready=False)
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith("no worker is running: start it")


def test_a_paused_deployment_hides_no_sweep_that_failed():
    paused = {"paused": "the work pool is paused: resume it", "ready": False}
    finding = judge(**paused)
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith("; no sweep will run: the work pool is paused: resume it")
    assert "flow run sad-owl" in judge(last=REFUSED, **paused).text


def test_a_schedule_that_is_off_fails_with_the_command():
    finding = judge(schedules=[OFF])
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith(
        "no schedule is active: prefect deployment schedule resume cancel-stale-runs/extend 1-2"
    )


def test_without_a_schedule_a_recent_sweep_is_only_a_warning():
    assert judge(schedules=[]).verdict is Verdict.WARN
    long_ago = replace(SWEPT, since=NOW - timedelta(days=2))
    assert judge(schedules=[], last=long_ago).verdict is Verdict.FAIL
    assert judge(schedules=[], last=None).verdict is Verdict.FAIL


def test_a_watchdog_that_only_ever_ran_dry_fails():
    finding = judge(last=None, dry=4)
    assert finding.verdict is Verdict.FAIL
    assert "no real sweep has run yet, 4 dry runs only; it has only ever run dry" in finding.text


def test_dry_runs_after_a_real_sweep_are_counted_and_ok():
    finding = judge(dry=1)
    assert finding.verdict is Verdict.OK
    assert "stale classify runs, 1 dry run since; the next" in finding.text


@pytest.mark.parametrize("last", [SWEPT, None])
def test_a_deployment_set_to_dry_run_fails_whatever_it_once_did(last):
    finding = judge(dry_run=True, last=last)
    assert finding.verdict is Verdict.FAIL
    assert "nothing is cancelled, dry_run is set" in finding.text


def test_a_rehearsal_beside_a_real_watch_is_a_warning():
    assert judge(dry_run=True, real={("classify", "extend")}).verdict is Verdict.WARN
    assert judge(dry_run=True, real={("extract", "extend"), ("classify", "acme")}).verdict is Verdict.FAIL


def test_a_sweep_long_overdue_with_a_worker_is_a_warning():
    finding = judge(next_at=NOW - timedelta(minutes=40))
    assert finding.verdict is Verdict.WARN
    assert "the next was due 40 min ago" in finding.text
    assert judge(next_at=NOW - timedelta(minutes=1)).verdict is Verdict.OK


def test_before_the_first_sweep_it_says_when_that_is_due():
    finding = judge(last=None)
    assert finding.verdict is Verdict.WARN
    assert "no sweep has run yet; the next is due in 8 min" in finding.text


def test_a_schedule_without_runs_yet_is_active():
    assert "; a schedule is active, worker" in judge(next_at=None, changed=NOW - timedelta(minutes=2)).text


def test_a_schedule_that_makes_no_more_runs_fails():
    finding = judge(next_at=None, changed=NOW - timedelta(minutes=6))
    assert finding.verdict is Verdict.FAIL
    assert finding.text.endswith(
        "; no sweep is planned: its schedule is over, or the Prefect server's scheduler is off"
    )


@given(
    st.builds(
        Watch,
        name=st.just("cancel-stale-runs/extend"),
        kind=st.just("classify"),
        block=st.sampled_from(["extend", None]),
        dry_run=st.booleans(),
        last=st.sampled_from([None, SWEPT, REFUSED]),
        dry=st.integers(0, 3),
        paused=st.sampled_from([None, "the pool is paused"]),
        schedules=st.sampled_from([(), (OFF,), (ON,), (OFF, ON)]),
        next_at=st.sampled_from([None, NOW - timedelta(hours=1), NOW + timedelta(hours=1)]),
        ready=st.booleans(),
    )
)
def test_only_a_watch_that_will_cancel_for_real_is_ok(watch):
    finding = judge_watch(watch, NOW)
    works = watch.last is SWEPT and watch.ready and not watch.paused and not watch.dry_run and ON in watch.schedules
    assert (finding.verdict is Verdict.OK) <= works
    if watch.last is None and watch.dry:
        assert finding.verdict is Verdict.FAIL


def test_a_schedule_with_parameters_fails_on_or_off():
    for active in (True, False):
        schedule = ScheduleFacts("1", "hourly", active, {"kind": "extract", "credentials": {}})
        [finding] = judge_schedules(replace(WELL, schedules=[ON, schedule]))
        assert finding.verdict is Verdict.FAIL
        assert finding.text.startswith(
            "the schedule hourly of cancel-stale-runs/extend carries parameters (credentials, kind), and Prefect drops"
        )


def made(parameters, *, days=1, schedule="1-2"):
    return PastRun(schedule, NOW - timedelta(days=days), parameters)


def test_a_schedule_that_lost_its_parameters_fails():
    [finding] = judge_schedules(replace(WELL, made=[made(ACCOUNT, days=1), made(OTHER, days=2)]))
    assert finding.verdict is Verdict.FAIL
    assert finding.text.startswith(
        "the schedule every-15-minutes of cancel-stale-runs/extend has lost its parameters (kind, "
        "max_processing_minutes): Prefect dropped them when it was switched or edited, and it now sweeps classify runs "
        "of block extend"
    )


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param([made(ACCOUNT)], id="always-the-same"),
        pytest.param([made(OTHER, days=10)], id="the-deployment-was-changed-since"),
        pytest.param([made(OTHER, schedule="3-4")], id="another-schedule"),
        pytest.param([], id="none"),
    ],
)
def test_a_schedule_that_carried_nothing_has_lost_nothing(runs):
    assert judge_schedules(replace(WELL, made=runs)) == []
    assert judge_schedules(replace(WELL, made=[made(OTHER)], schedules=[OFF])) == []


def test_a_scheduled_sweep_without_a_block_fails():
    [finding] = judge_schedules(replace(WELL, parameters={"kind": "classify"}, block=None))
    assert finding.verdict is Verdict.FAIL
    assert "starts sweeps without a block" in finding.text
