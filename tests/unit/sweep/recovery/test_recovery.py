"""What earlier sweeps left open is finished, no matter which sweep left it, and nothing of it is lost or done twice."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from prefect_extend_ai.errors import ExtendAuthError, ExtendPermissionError, RecordError, RecordRefusedError
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.scan import Target


def test_what_has_ended_is_recorded_and_the_intent_completed(stage):
    on = stage({"status": "CANCELLED"}, {"status": "PROCESSED"}, {})
    on.leave_open("clr_0", "clr_1", "clr_2")
    settled = on.recover()
    assert [(each.run_id, each.outcome) for each in settled] == [
        ("clr_0", Outcome.CANCELLED),
        ("clr_1", Outcome.FINISHED_FIRST),
    ]
    assert all(each.record for each in settled)
    assert on.prefect.open_runs() == [["clr_2"]]
    assert on.recover() == []


def test_a_run_that_is_recorded_is_not_read_again(stage):
    on = stage({"status": "CANCELLED"})
    intent = on.leave_open("clr_0")
    on.prefect.records.append((uuid4(), intent.id, {"clr_0": on.extend.text("clr_0")}))
    assert on.recover() == []
    assert "get_run" not in on.did
    assert on.prefect.intents == {}


@pytest.mark.parametrize(("days", "stays"), [(0, True), (29, True), (31, False)])
def test_a_run_that_is_not_found_stays_open_for_a_month(stage, days, stays):
    on = stage({"gone": True})
    on.leave_open("clr_0", hours=24 * days)
    assert on.recover() == []
    assert bool(on.prefect.intents) == stays


def test_a_run_of_two_intents_is_recorded_once(stage):
    on = stage({"status": "CANCELLED"})
    on.leave_open("clr_0", hours=2)
    on.leave_open("clr_0", hours=1)
    assert len(on.recover()) == 1
    assert len(on.prefect.records) == 1
    assert on.prefect.intents == {}


def test_a_run_that_is_asked_again_is_in_the_new_intent_alone(stage):
    on = stage({"cancel_mode": "never"}, {})
    earlier = on.leave_open("clr_0")
    on.recover()
    on.cancel()
    assert on.prefect.open_runs() == [["clr_0"]]
    assert earlier.id not in on.prefect.intents


@pytest.mark.parametrize("shared", [False, True])
def test_a_listing_that_lags_records_nothing_twice(stage, shared):
    on = stage({"status": "CANCELLED"}, runs_a_record=50 if shared else 1)
    on.leave_open("clr_0")
    (settled,) = on.recover()
    on.did.clear()
    (cancellation,) = on.cancel()
    assert cancellation.outcome is Outcome.SPARED
    assert cancellation.record == settled.record
    assert "log" not in on.did
    assert len(on.prefect.records) == 1
    assert on.prefect.intents == {}


def test_batches_side_by_side_each_adopt_their_own_runs(stage):
    on = stage({"cancel_mode": "never"}, {"cancel_mode": "never"}, {"cancel_mode": "never"})
    on.leave_open("clr_0", "clr_1", "clr_2")
    on.recover()

    async def at_once():
        await asyncio.gather(*(on.sweep.cancel_batch([Target(run_id)]) for run_id in ("clr_0", "clr_1")))

    on.run(at_once())
    assert sorted(on.prefect.open_runs()) == [["clr_0"], ["clr_1"], ["clr_2"]]


def test_a_run_that_cannot_be_read_is_left_for_the_next_sweep(stage):
    on = stage({"status": "CANCELLED", "gets": ["502"]})
    on.leave_open("clr_0")
    assert on.recover() == []
    assert len(on.recover()) == 1
    assert on.prefect.intents == {}


def test_a_stopped_recovery_reads_nothing_and_loses_nothing(stage):
    on = stage({"status": "CANCELLED"}, {"status": "CANCELLED"}, concurrency=1)
    on.leave_open("clr_0", "clr_1")
    on.did.clear()
    on.sweep.stop.set("the sweep took too long")
    assert on.recover() == []
    assert "get_run" not in on.did
    assert on.prefect.open_runs() == [["clr_0", "clr_1"]]


def test_an_error_of_the_account_ends_the_recovery(stage):
    on = stage({}, {}, {}, concurrency=1)
    on.leave_open("clr_0", "clr_1", "clr_2")
    asked = []

    async def refuse(run_id, *_):
        asked.append(run_id)
        raise ExtendAuthError("wrong key", status=401)

    on.client.get_run = refuse
    on.refuse_account()
    with pytest.raises(ExtendAuthError):
        on.recover()
    assert asked == ["clr_0"]
    assert len(on.prefect.intents) == 1


def test_a_run_that_may_not_be_read_stops_no_other(stage):
    on = stage({"status": "CANCELLED"}, {"status": "CANCELLED"})
    on.leave_open("clr_0", "clr_1")
    get_run = on.client.get_run

    async def one_forbidden(run_id, kind):
        if run_id == "clr_0":
            raise ExtendPermissionError("not this one", status=403)
        return await get_run(run_id, kind)

    on.client.get_run = one_forbidden
    assert [each.run_id for each in on.recover()] == ["clr_1"]
    assert on.prefect.open_runs() == [["clr_0"]]
    assert on.sweep.stop.reason is None


def test_recovery_cannot_go_on_without_the_journal(stage):
    on = stage({}, fails={1: "before"})
    with pytest.raises(RecordError):
        on.recover()


def test_a_recovered_run_without_a_record_is_not_counted(stage):
    on = stage({"status": "CANCELLED"}, {})
    on.leave_open("clr_0")

    async def refuse(note, finals):
        raise RecordRefusedError("413 too large")

    on.journal.record = refuse
    assert on.recover() == []
    assert on.sweep._recorder.unrecorded == {"clr_0"}
    assert on.sweep.stop.reason is None


def test_a_crash_before_any_cancel_claims_no_cancel_of_ours(stage):
    on = stage({"status": "CANCELLED"})
    on.leave_open("clr_0")
    (recovered,) = on.recover()
    assert recovered.outcome is Outcome.CANCELLED
    assert "or somebody else cancelled the run, is not known" in recovered.reason


def test_a_run_for_which_no_cancel_left_was_cancelled_by_another(stage):
    on = stage({"gets": ["502"]})
    report = on.play()
    assert report.counts == {Outcome.ERROR: 1}
    on.extend.change("clr_0", "CANCELLED")
    on.begin()
    (recovered,) = on.recover()
    assert recovered.outcome is Outcome.ALREADY_CANCELLED
    assert "somebody else" in recovered.reason


def test_a_late_cancel_names_its_sweep_and_its_cancels(stage):
    on = stage({"cancel_mode": "later", "cancel_seconds": 300})
    assert on.play().counts == {Outcome.UNCONFIRMED: 1}
    report = on.play(minutes=15)
    assert (len(report.recovered), report.pending, report.needs_attention) == (1, [], False)
    assert len(on.prefect.texts("clr_0")) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"api_url": "https://localhost:8765"},
        {"workspace_id": "ws_1"},
        {"api_url": "https://eu.example.com", "workspace_id": "ws_2"},
    ],
)
def test_an_intent_of_another_spelling_is_recovered(stage, other):
    on = stage(*[{"status": "CANCELLED"}] * 3)
    on.leave_open("clr_0", "clr_1", "clr_2", scope=other)
    assert len(on.recover()) == 3
    assert on.prefect.intents == {}
    assert on.sweep.open_elsewhere is None


def test_an_intent_of_another_account_stays_and_is_counted(stage):
    on = stage({})
    on.leave_open(*(f"clr_theirs_{n}" for n in range(5)), scope={"workspace_id": "ws_other"}, hours=5)
    on.leave_open("clr_theirs_7", scope={"workspace_id": "ws_other"}, hours=2)
    report = on.play()
    assert report.counts == {Outcome.CANCELLED: 1}
    assert (report.open_elsewhere.intents, report.open_elsewhere.runs) == (2, 6)
    assert len(on.prefect.intents) == 2
    read = on.extend.reads[on.journal.process.name]
    assert set(read) == {"clr_0", *(f"clr_theirs_{n}" for n in (0, 1, 2, 3, 4, 7))}


def test_a_sweep_reads_the_newest_200_open_runs_first(stage):
    on = stage(*[{"updated": -60.0}] * 450, {})
    for start in range(0, 450, 50):
        on.leave_open(*(f"clr_{n}" for n in range(start, start + 50)), hours=10 - start // 50)
    on.did.clear()
    on.recover()
    assert on.did.count("get_run") == 200
    assert {run_id for open_ in on.prefect.open_runs() for run_id in open_} == {f"clr_{n}" for n in range(450)}


def test_older_open_runs_are_read_after_the_stale_ones_in_turn(stage):
    on = stage(*[{"cancel_mode": "never"}] * 450)
    for start in range(0, 450, 50):
        on.leave_open(*(f"clr_{n}" for n in range(start, start + 50)), hours=10 - start // 50)
    seen = []
    for _ in range(3):
        on.begin()
        on.recover()
        parts = on.sweep.divide([Target(f"clr_{n}") for n in range(450)])
        # What is not read yet is not selected either, nor lost.
        assert len(parts.to_ask) == 200
        assert {each.outcome for each in parts.deferred} == {Outcome.DEFERRED}
        on.client.get_run, read = watched(on.client.get_run)
        on.run(on.sweep.recover_more(0.05))
        seen += dict.fromkeys(run_id for run_id in read)
    assert len(seen) == len(set(seen)) == 150
    assert {run_id for open_ in on.prefect.open_runs() for run_id in open_} == {f"clr_{n}" for n in range(450)}


def watched(get_run):
    read = []

    async def telling(run_id, kind):
        read.append(run_id)
        return await get_run(run_id, kind)

    return telling, read


def test_a_second_attempt_reports_what_the_first_one_did(stage):
    on = stage({}, {})
    on.cancel()
    on.begin(named=True)
    earlier = {
        run_id: {"artifact_id": id_, "outcome": "cancelled"} for id_, _, texts in on.prefect.records for run_id in texts
    }
    on.journal.earlier = earlier
    on.recover()
    assert [each.outcome for each in on.cancel()] == [Outcome.CANCELLED] * 2
    assert all(len(on.prefect.texts(run_id)) == 1 for run_id in on.extend.runs)


def test_a_second_attempt_recovers_what_the_first_one_left(stage):
    on = stage({"status": "CANCELLED"}, {"status": "CANCELLED"})
    on.leave_open("clr_0", rule="sweep-1")
    on.leave_open("clr_1", rule="a task beside it")
    on.begin(named=True)
    on.journal.second_attempt_of = "sweep-1"
    on.run(on.sweep.recover({"clr_0"}))
    (cancellation,) = on.run(on.sweep.cancel_batch([Target("clr_0")]))
    assert cancellation.outcome is Outcome.CANCELLED
    assert on.prefect.texts("clr_1") == []


def test_open_objects_wait_for_their_record_by_size(stage, monkeypatch):
    on = stage(*[{}] * 40)
    room = 12 * len(on.extend.text("clr_0"))
    monkeypatch.setattr("prefect_extend_ai.sweep.recorder.WAITING_BYTES", room)
    most = []
    record = on.journal.record

    async def watching(intent, finals):
        most.append(on.sweep._recorder._waiting)
        await asyncio.sleep(1)
        return await record(intent, finals)

    on.journal.record = watching
    on.cancel()
    size = len(on.extend.text("clr_0"))
    # A run that was being read when the room was used up may still come.
    assert max(most) <= room + 9 * size
    assert len(on.prefect.records) == 40


def test_a_recorded_run_keeps_no_parsed_document(stage):
    on = stage({}, {"status": "CANCELLED"})
    kept = []
    record = on.journal.record

    async def looking(intent, finals):
        kept.extend(run.raw["output"] for run, _ in finals)
        return await record(intent, finals)

    on.journal.record = looking
    on.leave_open("clr_1")
    on.recover()
    on.run(on.sweep.cancel_batch([Target("clr_0")]))
    assert kept == [None, None]


@pytest.mark.parametrize("deleted", [range(3), range(9), range(0, 40, 2)])
def test_deleted_runs_of_another_spelling_hide_no_other(stage, deleted):
    runs = [{"status": "CANCELLED", "gone": n in deleted} for n in range(40)]
    on = stage(*runs)
    on.leave_open(*(f"clr_{n}" for n in range(40)), scope={"workspace_id": "ws_1"})
    assert len(on.recover()) == 40 - len(deleted)
    assert on.sweep.open_elsewhere is None
