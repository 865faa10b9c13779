"""The order of a sweep's writes, and what it does when one of them fails."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendAuthError, ExtendPermissionError, RecordError, RecordRefusedError
from prefect_extend_ai.report import Outcome
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.stop import Stop
from prefect_extend_ai.survey import Target
from prefect_extend_ai.sweep import recorder
from prefect_extend_ai.sweep.engine import BATCH, ONE_RECORD_EACH, Sweep, batches, runs_a_record
from prefect_extend_ai.sweep.journal import CancelIntent, Scope


class Stage:
    """A sweep over runs in memory, which keeps a diary of what was done."""

    def __init__(self, doubles, runner, runs, *, fails=(), down_from=None, **options):
        loop = runner.get_loop()
        self.runner = runner
        self.loop = loop
        self.extend = doubles.Extend([doubles.Fake(f"clr_{n}", **facts) for n, facts in enumerate(runs)], loop)
        self.prefect = self.extend.prefect = doubles.Prefect()
        process = doubles.Process("sweep-1", latencies=random.Random(0))
        self.journal = doubles.MemoryJournal(self.prefect, process, dict(fails), down_from, self.extend.now)
        self.did = []
        self.client = doubles.Client(self.extend, process)
        for of, name in [(self.client, "get_run"), (self.client, "cancel_run")]:
            self.tell(of, name)
        for name in ("log", "contested", "record", "recorded", "complete", "pending"):
            self.tell(self.journal, name)
        self.sweep = Sweep(
            self.client,
            self.journal,
            lambda run, _: None if run.status == "PROCESSING" else "not in progress",
            Stop(loop.time),
            clock=loop.time,
            sleep=process.sleep,
            now=self.extend.now,
            **options,
        )

    def tell(self, of, name):
        does = getattr(of, name)

        async def telling(*args, **options):
            result = await does(*args, **options)
            self.did.append(name)
            return result

        setattr(of, name, telling)

    def leave_open(self, *run_ids, hours=1):
        """A note that an earlier sweep left."""
        opened = self.extend.now() - timedelta(hours=hours)
        intent = CancelIntent(
            id=uuid4(), scope=self.journal.scope, run_ids=list(run_ids), opened_at=opened, rule="earlier"
        )
        self.prefect.intents[intent.id] = intent
        return intent

    def cancel(self):
        return self.run(self.sweep.cancel_batch([Target(run_id) for run_id in self.extend.runs]))

    def recover(self):
        return self.run(self.sweep.recover())

    def run(self, doing):
        return self.runner.run(doing)

    @property
    def seconds(self):
        return self.loop.time()


@pytest.fixture
def stage(doubles):
    """Makes a stage of such runs."""
    with asyncio.Runner(loop_factory=doubles.VirtualLoop) as runner:
        yield lambda *runs, **options: Stage(doubles, runner, runs, **options)


@given(st.integers(0, 60_000))
def test_batches_hold_every_target_once_and_never_make_too_many_records(count):
    cut = list(batches(range(count)))
    assert [each for batch in cut for each in batch] == list(range(count))
    assert all(len(batch) == len(cut[0]) >= BATCH for batch in cut[:-1])
    records = sum(-(-len(batch) // runs_a_record(count)) for batch in cut)
    assert records <= ONE_RECORD_EACH


def test_the_note_comes_first_then_check_and_cancel_then_the_record_and_the_note_is_closed_last(stage):
    on = stage({})
    (cancellation,) = on.cancel()
    assert on.did == ["log", "contested", "get_run", "cancel_run", "record", "complete"]
    assert cancellation.outcome is Outcome.CANCELLED
    assert cancellation.record == on.prefect.records[0][0]
    assert on.prefect.texts("clr_0") == [on.extend.runs["clr_0"].text()]
    assert on.prefect.intents == {}


def test_runs_that_share_records_share_as_few_as_their_size_allows(stage, monkeypatch):
    on = stage(*({} for _ in range(7)), runs_a_record=50)
    monkeypatch.setattr(recorder, "RECORD_BYTES", int(3.5 * len(on.extend.runs["clr_0"].text())))
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


def test_a_note_stays_open_for_the_runs_that_are_not_settled(stage):
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


def test_a_prefect_that_stays_away_is_given_up_in_time_and_the_note_stays_open(stage):
    on = stage({}, {}, down_from=3)
    cancellations = on.cancel()
    assert on.sweep._recorder.unrecorded == {each.run_id for each in cancellations if each.outcome is Outcome.CANCELLED}
    assert on.sweep._recorder.unrecorded
    assert all(each.record is None for each in cancellations)
    assert len(on.prefect.intents) == 1
    assert recorder.RECORD_PATIENCE <= on.seconds < recorder.RECORD_PATIENCE + 30


@pytest.mark.parametrize("silent", ["record", "complete"])
def test_a_prefect_that_answers_nothing_any_more_ends_the_sweep_in_time_however_many_runs_are_in_hand(stage, silent):
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


def test_a_note_that_cannot_be_closed_does_no_harm(stage):
    on = stage({}, fails={4: "before"})
    (cancellation,) = on.cancel()
    assert cancellation.record is not None
    assert len(on.prefect.intents) == 1
    on.recover()
    assert on.prefect.intents == {}
    assert len(on.prefect.records) == 1


@pytest.mark.parametrize("error", [RecursionError("too deep to render"), RecordRefusedError("413 too large")])
def test_a_run_that_cannot_be_rendered_or_recorded_costs_its_own_record_alone(stage, error):
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
    assert [len(ids) for ids in asked] == [4, 2, 2, 1, 1]
    assert [each.record is None for each in cancellations] == [False, False, False, True]
    assert on.sweep._recorder.unrecorded == {"clr_3"}
    assert on.prefect.open_runs() == [["clr_3"]]
    assert on.sweep.stop.reason is None


def test_settling_counts_no_run_whose_record_is_not_taken(stage):
    on = stage({"status": "CANCELLED"}, {})
    on.leave_open("clr_0")

    async def refuse(note, finals):
        raise RecordRefusedError("413 too large")

    on.journal.record = refuse
    assert on.recover() == []
    assert on.sweep._recorder.unrecorded == {"clr_0"}
    assert on.sweep.stop.reason is None


def test_one_run_with_unexpected_trouble_never_stops_the_others(stage):
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


def test_settling_records_what_ended_and_closes_the_note(stage):
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


def test_settling_reads_no_run_that_is_recorded(stage):
    on = stage({"status": "CANCELLED"})
    intent = on.leave_open("clr_0")
    on.prefect.records.append((uuid4(), intent.id, {"clr_0": on.extend.runs["clr_0"].text()}))
    assert on.recover() == []
    assert "get_run" not in on.did
    assert on.prefect.intents == {}


@pytest.mark.parametrize(("days", "stays"), [(0, True), (29, True), (31, False)])
def test_a_run_that_is_not_found_keeps_its_note_open_for_a_month(stage, days, stays):
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


def test_a_run_selected_again_stands_in_the_new_note_alone(stage):
    on = stage({"cancel_mode": "never"}, {})
    earlier = on.leave_open("clr_0")
    on.recover()
    on.cancel()
    assert on.prefect.open_runs() == [["clr_0"]]
    assert earlier.id not in on.prefect.intents


@pytest.mark.parametrize("shared", [False, True])
def test_a_run_just_settled_that_a_lagging_listing_still_shows_is_not_recorded_again(stage, shared):
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


def test_batches_at_once_each_take_their_own_runs_out_of_an_earlier_note(stage):
    on = stage({"cancel_mode": "never"}, {"cancel_mode": "never"}, {"cancel_mode": "never"})
    on.leave_open("clr_0", "clr_1", "clr_2")
    on.recover()

    async def at_once():
        await asyncio.gather(*(on.sweep.cancel_batch([Target(run_id)]) for run_id in ("clr_0", "clr_1")))

    on.run(at_once())
    assert sorted(on.prefect.open_runs()) == [["clr_0"], ["clr_1"], ["clr_2"]]


def test_settling_that_cannot_read_a_run_leaves_it_for_the_next_sweep(stage):
    on = stage({"status": "CANCELLED", "get_troubles": ["5xx"]})
    on.leave_open("clr_0")
    assert on.recover() == []
    assert len(on.recover()) == 1
    assert on.prefect.intents == {}


def test_settling_that_is_stopped_reads_no_further_run_and_leaves_the_note_to_the_next_sweep(stage):
    on = stage({"status": "CANCELLED"}, {"status": "CANCELLED"}, concurrency=1)
    on.leave_open("clr_0", "clr_1")
    on.did.clear()
    on.sweep.stop.after(0, "the sweep took too long")
    assert on.recover() == []
    assert "get_run" not in on.did
    assert on.prefect.open_runs() == [["clr_0", "clr_1"]]


def test_settling_stops_at_an_error_of_the_account(stage):
    on = stage({}, {}, {}, concurrency=1)
    on.leave_open("clr_0", "clr_1", "clr_2")
    asked = []

    async def refuse(run_id, *_):
        asked.append(run_id)
        raise ExtendAuthError("wrong key", status=401)

    on.client.get_run = refuse
    with pytest.raises(ExtendAuthError):
        on.recover()
    assert asked == ["clr_0"]
    assert len(on.prefect.intents) == 1


def test_a_run_that_may_not_be_read_stays_open_and_stops_no_other(stage):
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


def test_settling_cannot_go_on_without_the_journal(stage):
    on = stage({}, fails={1: "before"})
    with pytest.raises(RecordError):
        on.recover()


def test_a_scope_makes_a_key_that_tells_workspaces_apart_by_case_too():
    slugs = {
        Scope(kind=RunKind.PARSE, api_url="https://api.extend.ai", workspace_id=workspace).slug
        for workspace in (None, "ws_AbC", "ws_abc", "ws_" + "x" * 200)
    }
    assert len(slugs) == 4
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(slug) < 80 for slug in slugs)
