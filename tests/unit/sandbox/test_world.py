from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta

import pytest

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sandbox import Behaviour, World
from prefect_extend_ai.sandbox.faults import Fault


def cancelled(world: World, run_id: str) -> dict[str, object]:
    return json.loads(world.cancel(world.get(run_id)) or "null")


@pytest.mark.parametrize("kind", list(RunKind))
def test_a_population_has_exactly_the_stuck_runs_requested(still, kind):
    world = still()
    world.populate(runs=200, stuck=40, seed=7, kind=kind)
    assert len(world.runs) == 200
    assert len(world.stale(minutes=60, kind=kind)) == 40
    ages = [(world.now() - world.get(each).updated_at) / timedelta(minutes=1) for each in world.stale(kind=kind)]
    assert 64 < min(ages) < 80
    assert max(ages) > 24 * 60
    assert ages == sorted(ages, reverse=True)


def test_a_population_has_every_status_and_young_healthy_runs(still):
    world = still()
    world.populate(runs=60, stuck=12)
    statuses = Counter(record.status for record in world.runs.values())
    assert set(statuses) == {"PENDING", "PROCESSING", "PROCESSED", "FAILED", "CANCELLED"}
    healthy = [record for record in world.runs.values() if record.status == "PROCESSING" and record.plan]
    assert healthy
    assert all(world.now() - record.updated_at < timedelta(minutes=30) for record in healthy)
    held = [record for record in world.runs.values() if (record.metadata or {}).get("prefect_hold")]
    assert held
    assert not {record.id for record in held} & set(world.stale())
    hour = world.now() - timedelta(hours=1)
    assert any(record.status == "PROCESSED" and record.updated_at > hour for record in world.runs.values())
    assert all(re.fullmatch(r"clr_[A-Za-z0-9_-]{21}", run_id) for run_id in world.runs)


def test_the_same_seed_makes_the_same_runs(still):
    texts = []
    for seed in (1, 1, 2):
        world = still(seed=seed)
        world.populate(runs=30, stuck=5, seed=seed)
        texts.append([world.text(run_id) for run_id in world.runs])
    assert texts[0] == texts[1] != texts[2]


def test_more_stuck_runs_than_runs_are_refused_in_words(still):
    with pytest.raises(ExtendInputError, match="between 0 and the number of runs"):
        still().populate(runs=3, stuck=4)


def test_a_live_run_goes_its_way_and_a_stuck_one_stays(still):
    world = still()
    live = world.add(status="PENDING", plan=[(10, "PROCESSING"), (60, "PROCESSED")])
    stuck = world.add(age_minutes=90)
    seen = []
    for _ in range(4):
        seen.append(world.get(live).status)
        world.advance(seconds=20)
    assert seen == ["PENDING", "PROCESSING", "PROCESSING", "PROCESSED"]
    # It ended when its plan said, not when somebody looked.
    assert world.now() - world.get(live).updated_at == timedelta(seconds=20)
    assert world.get(stuck).status == "PROCESSING"
    assert world.now() - world.get(stuck).updated_at == timedelta(minutes=90, seconds=80)


def test_an_hour_later_only_the_stuck_runs_are_left(still):
    world = still()
    world.populate(runs=60, stuck=12)
    before = world.stale()
    world.advance(minutes=60)
    assert world.stale() == before
    world.tick()
    assert not [record for record in world.runs.values() if record.plan or record.status == "PENDING"]


@pytest.mark.parametrize("kind", list(RunKind))
def test_a_full_run_has_what_its_summary_lacks(still, kind):
    world = still()
    run_id = world.add(kind, "PROCESSED", metadata={"a": 1})
    whole, listed = world.full(run_id), world.listed(world.get(run_id))
    lacks = {
        "classify": {"output", "initialOutput", "reviewedOutput", "config"},
        "extract": {"output", "initialOutput", "reviewedOutput", "config", "edits"},
        "split": {"output", "initialOutput", "reviewedOutput", "config"},
        "parse": {"output", "outputUrl", "config"},
        "verify": {"output"},
        "workflow": {"metadata", "failureReason", "failureMessage", "reviewed", "stepRuns"},
    }[kind]
    assert set(whole) - set(listed) == lacks
    assert {"createdAt", "updatedAt"} <= set(listed)
    assert ({"createdAt", "updatedAt"} <= set(whole)) == kind.dated
    assert "breakdown" in whole["usage"]
    assert "breakdown" not in listed["usage"]
    assert listed["usage"]
    assert Run.from_item(kind, whole).status == "PROCESSED"


def test_a_number_is_written_to_the_letter(still):
    world = still()
    text = world.text(world.add(status="PROCESSED"))
    assert re.search(r'"credits":\d\.50[,}]', text)
    assert isinstance(json.loads(text)["usage"]["credits"], float)


def test_raw_fields_replace_and_join_what_is_sent(still):
    world = still(behaviour=Behaviour(nulls=False))
    run_id = world.add(updatedAt=None, brandNew={"x": [1.5]}, metadata={"kept": None})
    assert world.full(run_id)["updatedAt"] is None
    assert world.full(run_id)["brandNew"] == {"x": [1.5]}
    assert world.full(run_id)["metadata"] == {"kept": None}
    assert "failureReason" not in world.full(run_id)


def test_timestamps_have_milliseconds_or_not(still):
    for fractions, ending in ((True, "00.000Z"), (False, ":00Z")):
        world = still(behaviour=Behaviour(fractions=fractions))
        assert world.full(world.add())["updatedAt"].endswith(ending)


# The ways in which a cancel may go; each is a reading of documentation that leaves it open.


@pytest.mark.parametrize(
    ("mode", "answered", "at_once", "after"),
    [
        ("at_once", "CANCELLED", "CANCELLED", "CANCELLED"),
        ("later", "PROCESSING", "PROCESSING", "CANCELLED"),
        ("cancelling", "CANCELLING", "CANCELLING", "CANCELLED"),
        ("aborted", "FAILED", "FAILED", "FAILED"),
        ("pending", "PENDING", "CANCELLED", "CANCELLED"),
        ("finishes", "PROCESSING", "PROCESSING", "PROCESSED"),
        ("never", "PROCESSING", "PROCESSING", "PROCESSING"),
    ],
)
def test_a_cancel_goes_as_its_mode_says(still, mode, answered, at_once, after):
    world = still(behaviour=Behaviour(cancel=mode, cancel_seconds=2))
    run_id = world.add(age_minutes=90)
    assert cancelled(world, run_id)["status"] == answered
    assert world.get(run_id).status == at_once
    world.advance(seconds=1.9)
    assert world.get(run_id).status == at_once
    world.advance(seconds=0.1)
    assert world.get(run_id).status == after
    assert world.cancels(run_id) == 1


def test_an_aborted_run_says_so_and_a_verify_run_in_its_own_word(still):
    world = still(behaviour=Behaviour(cancel="aborted"))
    assert cancelled(world, world.add())["failureReason"] == "ABORTED"
    assert cancelled(world, world.add("verify"))["failureReason"] == "REQUEST_ABORTED"


def test_a_cancel_may_take_at_the_nth_read_or_return_nothing(still):
    world = still(behaviour=Behaviour(cancel="on_get", cancel_gets=3))
    run_id = world.add()
    cancelled(world, run_id)
    statuses = [json.loads(world.read(world.get(run_id)))["status"] for _ in range(4)]
    assert statuses == ["PROCESSING", "PROCESSING", "CANCELLED", "CANCELLED"]
    world = still(behaviour=Behaviour(cancel="empty"))
    run_id = world.add()
    assert cancelled(world, run_id) is None
    assert world.get(run_id).status == "CANCELLED"


@pytest.mark.parametrize("status", ["PROCESSED", "FAILED", "CANCELLED"])
def test_a_run_that_has_ended_is_refused_or_left_alone(still, status):
    world = still(behaviour=Behaviour(refusal_status=409, refusal_code="NOT_NOW"))
    with pytest.raises(Fault) as refusal:
        cancelled(world, world.add(status=status))
    assert (refusal.value.status, refusal.value.code) == (409, "NOT_NOW")
    assert cancelled(world, world.add("verify", status))["status"] == status
    lenient = still(behaviour=Behaviour(second_cancel="no_op"))
    assert cancelled(lenient, lenient.add(status=status))["status"] == status
    assert sum(record.cancels for record in [*world.runs.values(), *lenient.runs.values()]) == 0


def test_a_pending_run_is_cancellable_if_documented_or_switched(still):
    world = still()
    with pytest.raises(Fault):
        cancelled(world, world.add(status="PENDING"))
    assert cancelled(world, world.add("workflow", "PENDING"))["status"] == "CANCELLED"
    world = still(behaviour=Behaviour(pending_cancellable=True))
    assert cancelled(world, world.add(status="PENDING"))["status"] == "CANCELLED"


@pytest.mark.parametrize("mode", ["at_once", "later", "aborted", "cancelling"])
@pytest.mark.parametrize("moves", [True, False])
def test_a_cancel_moves_updated_at_or_does_not(still, mode, moves):
    world = still(behaviour=Behaviour(cancel=mode, cancel_moves_updated_at=moves, cancel_seconds=1))
    run_id = world.add(age_minutes=90)
    before = world.get(run_id).updated_at
    cancelled(world, run_id)
    world.advance(seconds=5)
    assert (world.get(run_id).updated_at > before) is moves


def test_updated_at_moves_while_processing_if_switched_on(still):
    world = still(behaviour=Behaviour(heartbeat_seconds=30))
    live, stuck = world.add(plan=[(300, "PROCESSED")]), world.add()
    began = world.now()
    world.advance(seconds=100)
    assert world.get(live).updated_at == began + timedelta(seconds=90)
    assert world.get(stuck).updated_at == began
    world.advance(minutes=60)
    assert world.get(live).status == "PROCESSED"
    assert world.get(live).updated_at == began + timedelta(seconds=300)


def test_a_run_that_was_deleted_never_comes_back(still):
    world = still(behaviour=Behaviour(list_lag_seconds=5))
    run_id = world.add(plan=[(1, "PROCESSED")])
    world.advance(seconds=2)
    world.remove(world.get(run_id))
    world.advance(seconds=60)
    world.tick()
    with pytest.raises(KeyError):
        world.get(run_id)
