"""The order of a sweep's writes, and what it does when one of them fails."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep import recorder
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.sizes import BATCH, ONE_RECORD_EACH, batches, runs_a_record


@given(st.integers(0, 60_000))
def test_batches_hold_each_target_once_and_make_few_records(count):
    cut = list(batches(range(count)))
    assert [each for batch in cut for each in batch] == list(range(count))
    assert all(len(batch) == len(cut[0]) >= BATCH for batch in cut[:-1])
    records = sum(-(-len(batch) // runs_a_record(count)) for batch in cut)
    assert records <= ONE_RECORD_EACH


def test_the_intent_comes_first_and_is_completed_last(stage):
    on = stage({})
    (cancellation,) = on.cancel()
    assert on.did == ["log", "contested", "get_run", "cancel_run", "record", "complete"]
    assert cancellation.outcome is Outcome.CANCELLED
    assert cancellation.record == on.prefect.records[0][0]
    assert on.prefect.texts("clr_0") == [on.extend.text("clr_0")]
    assert on.prefect.intents == {}


def test_runs_share_as_few_records_as_their_size_allows(stage, monkeypatch):
    on = stage(*({} for _ in range(7)), runs_a_record=50)
    monkeypatch.setattr(recorder, "RECORD_BYTES", int(3.5 * len(on.extend.text("clr_0"))))
    cancellations = on.cancel()
    assert [len(texts) for _, _, texts in on.prefect.records] == [3, 3, 1]
    assert all(
        each.run_id in texts for each in cancellations for id_, _, texts in on.prefect.records if id_ == each.record
    )


def test_a_record_larger_than_the_limit_stands_alone(stage, monkeypatch):
    on = stage({}, {}, runs_a_record=50)
    monkeypatch.setattr(recorder, "RECORD_BYTES", 10)
    on.cancel()
    assert [len(texts) for _, _, texts in on.prefect.records] == [1, 1]


def test_an_intent_stays_open_for_runs_that_have_not_ended(stage):
    on = stage({}, {"cancel_mode": "never"})
    cancellations = on.cancel()
    assert [each.outcome for each in cancellations] == [Outcome.CANCELLED, Outcome.UNCONFIRMED]
    assert on.prefect.open_runs() == [["clr_1"]]


@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_record_that_fails_is_tried_again_and_is_there_once(stage, fate):
    on = stage({}, fails={3: fate})
    on.cancel()
    assert len(on.prefect.records) == 1
    assert on.prefect.intents == {}
    # Prefect took something else meanwhile, so this is no reason to stop.
    assert on.sweep.stop.reason is None


@pytest.mark.parametrize("fate", ["before", "after"])
def test_nothing_is_cancelled_once_prefect_takes_nothing(stage, fate):
    on = stage({}, fails={3: fate, 4: "before"})
    on.cancel()
    assert len(on.prefect.records) == 1
    assert on.prefect.intents == {}
    assert "records cannot be written" in on.sweep.stop.reason
    assert isinstance(on.sweep.stop.error, RecordError)
    (later,) = on.run(on.sweep.cancel_batch([Target("clr_0")]))
    assert later.outcome is Outcome.DEFERRED


@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_wait_for_prefect_is_no_error_once_all_is_recorded(stage, fate):
    on = stage({}, fails={3: fate, 4: "before"})
    on.cancel()
    on.run(on.sweep.finish())
    assert len(on.prefect.records) == 1
    assert on.sweep.stop.reason is not None
    assert on.sweep.stop.error is None


def test_an_error_that_is_not_the_wait_stays(stage):
    on = stage({}, fails={3: "before", 4: "before"})
    other = RecordError("of another batch")
    on.sweep.stop.set("another batch could not be logged", other)
    on.cancel()
    on.run(on.sweep.finish())
    assert on.sweep.stop.error is other


def test_a_prefect_that_stays_away_is_given_up_in_time(stage):
    on = stage({}, {}, down_from=3)
    cancellations = on.cancel()
    on.run(on.sweep.finish())
    assert isinstance(on.sweep.stop.error, RecordError)
    assert on.sweep._recorder.unrecorded == {each.run_id for each in cancellations if each.outcome is Outcome.CANCELLED}
    assert on.sweep._recorder.unrecorded
    assert all(each.record is None for each in cancellations)
    assert len(on.prefect.intents) == 1
    assert recorder.RECORD_PATIENCE <= on.seconds < recorder.RECORD_PATIENCE + 30


@pytest.mark.parametrize("silent", ["record", "complete"])
def test_a_prefect_that_hangs_ends_the_sweep_in_time(stage, silent):
    on = stage(*[{}] * 20)

    async def never(*_, **__):
        await asyncio.Event().wait()

    setattr(on.journal, silent, never)
    if silent == "record":
        on.journal.is_writable = never
    on.cancel()
    assert len(on.sweep._recorder.unrecorded) == (20 if silent == "record" else 0)
    assert len(on.prefect.intents) == 1
    patience = recorder.WRITE_PATIENCE + recorder.WITNESS_SECONDS + recorder.RECORD_PATIENCE
    assert on.seconds < patience + 10
    assert (on.sweep.stop.reason is not None) == (silent == "record")


def test_records_that_hang_cost_themselves_alone(stage):
    on = stage(*[{}] * 20)

    async def never(*_, **__):
        await asyncio.Event().wait()

    on.journal.record = never
    on.cancel()
    assert len(on.sweep._recorder.unrecorded) == 20
    assert on.sweep.stop.reason is None
    assert on.seconds < 2 * recorder.WRITE_PATIENCE + 5 * recorder.WITNESS_SECONDS


def test_an_intent_that_cannot_be_completed_is_at_the_end(stage):
    on = stage({}, fails={4: "before"})
    (cancellation,) = on.cancel()
    assert cancellation.record is not None
    assert len(on.prefect.intents) == 1
    on.recover()
    assert on.prefect.intents == {}
    assert len(on.prefect.records) == 1


@pytest.mark.parametrize("error", [RecursionError("too deep to render"), RecordRefusedError("413 too large")])
def test_a_record_that_cannot_be_made_is_lost_alone(stage, error):
    on = stage({}, {})
    record = on.journal.record

    async def picky(note, finals):
        if finals[0][0].id == "clr_0":
            raise error
        return await record(note, finals)

    on.journal.record = picky
    cancellations = on.cancel()
    assert [each.outcome for each in cancellations] == [Outcome.CANCELLED] * 2
    assert on.sweep._recorder.unrecorded == {"clr_0"}
    assert on.prefect.texts("clr_1")
    assert on.prefect.open_runs() == [["clr_0"]]
    assert on.sweep.stop.reason is None


def test_a_shared_record_that_is_refused_is_tried_in_halves(stage):
    on = stage({}, {}, {}, {}, runs_a_record=50)
    record, asked = on.journal.record, []

    async def strict(note, finals):
        asked.append([run.id for run, _ in finals])
        if len(finals) > 2 or "clr_3" in asked[-1]:
            raise RecordRefusedError("413 too large")
        return await record(note, finals)

    on.journal.record = strict
    cancellations = on.cancel()
    assert sorted(len(ids) for ids in asked) == [1, 1, 2, 2, 4]
    assert [each.record is None for each in cancellations] == [False, False, False, True]
    assert on.sweep._recorder.unrecorded == {"clr_3"}
    assert on.prefect.open_runs() == [["clr_3"]]
    assert on.sweep.stop.reason is None


def test_an_unexpected_failure_of_one_run_stops_no_other(stage):
    on = stage({}, {})
    get_run = on.client.get_run

    async def odd(run_id, kind):
        if run_id == "clr_0":
            raise ZeroDivisionError
        return await get_run(run_id, kind)

    on.client.get_run = odd
    first, second = on.cancel()
    assert (first.outcome, second.outcome) == (Outcome.ERROR, Outcome.CANCELLED)
    assert "ZeroDivisionError" in first.reason
    assert on.prefect.open_runs() == [["clr_0"]]


def test_the_key_of_a_scope_is_case_sensitive():
    slugs = {
        Scope(kind=RunKind.PARSE, api_url="https://api.extend.ai", workspace_id=workspace).slug
        for workspace in (None, "ws_AbC", "ws_abc", "ws_" + "x" * 200)
    }
    assert len(slugs) == 4
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(slug) < 80 for slug in slugs)


@pytest.mark.parametrize("times", [1, 100])
def test_what_another_sweep_may_have_recorded_is_recorded_once(stage, times):
    """Where Prefect does not say whether one has, the run waits for the next sweep."""
    on = stage({"gets": ["finish"]})
    ask, asked = on.journal.recorded_elsewhere, []

    async def fail(intent):
        asked.append(intent)
        if len(asked) <= times:
            raise RecordError("Prefect does not answer")
        return await ask(intent)

    on.journal.recorded_elsewhere = fail
    [said] = on.cancel()
    assert said.outcome is Outcome.FINISHED_FIRST
    assert len(asked) == (2 if times == 1 else recorder.TRIES)
    assert len(on.prefect.texts("clr_0")) == (1 if times == 1 else 0)
    assert on.prefect.open_runs() == ([] if times == 1 else [["clr_0"]])
    on.begin()
    assert [each.run_id for each in on.recover()] == ([] if times == 1 else ["clr_0"])
    assert on.prefect.texts("clr_0") == [on.extend.text("clr_0")]
