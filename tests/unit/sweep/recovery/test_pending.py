"""Nothing pending is silent, and an alarm is news."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendAuthError
from prefect_extend_ai.sweep.recovery.pending import ALARMS, after_attempt, at_sweep, may_ask, next_alarm, why_deferred
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OUTCOMES = [Outcome.UNCONFIRMED, Outcome.REFUSED, Outcome.ERROR]


@given(st.lists(st.integers(1, 60 * 40), max_size=80), st.sampled_from(OUTCOMES), st.integers(1, 4))
def test_a_run_alarms_four_times_at_most_and_is_set_aside_once(minutes, outcome, sent):
    pending = PendingCancel(run_id="clr_1", since=NOW, attempts=sent, outcome=outcome)
    aloud = [NOW]
    asked = 0
    for minute in sorted(set(minutes)):
        now = NOW + timedelta(minutes=minute)
        found = at_sweep(pending, now, "PROCESSING", alarm=True)
        if found.is_news:
            aloud.append(now)
        assert may_ask(found) == found.is_news
        asked += may_ask(found)
        assert found.set_aside == (now - NOW >= ALARMS[-1])
        passed = sum(now - NOW >= each for each in ALARMS)
        assert found.alarms == 1 + passed
        pending = found.model_copy(update={"is_news": False})
    assert len(aloud) - 1 == asked <= len(ALARMS)
    gaps = [later - earlier for earlier, later in itertools.pairwise(aloud)]
    assert all(gap > timedelta() for gap in gaps)


@given(st.integers(0, 3000))
def test_a_sweep_that_raises_no_alarm_uses_none_up(minutes):
    pending = PendingCancel(run_id="clr_1", since=NOW, attempts=1, outcome=Outcome.REFUSED)
    found = at_sweep(pending, NOW + timedelta(minutes=minutes), None, alarm=False)
    assert found == pending


def test_what_was_never_sent_needs_no_waiting():
    for attempts in (None, 0):
        assert may_ask(PendingCancel(run_id="clr_1", since=NOW, attempts=attempts))
    assert not may_ask(PendingCancel(run_id="clr_1", since=NOW, attempts=1))


@pytest.mark.parametrize(("alarms", "hours"), [(1, 1), (2, 6), (3, 24), (4, None)])
def test_a_deferred_run_says_when_it_is_asked_again(alarms, hours):
    pending = PendingCancel(run_id="clr_1", since=NOW, attempts=1, outcome=Outcome.REFUSED, alarms=alarms)
    expected = NOW + timedelta(hours=hours) if hours else None
    assert next_alarm(pending) == expected
    said = why_deferred(pending)
    assert "known since 2026-03-01 12:00 UTC" in said
    assert ("cancel_runs" in said) == (hours is None)


def test_attempts_and_request_ids_add_up_over_sweeps():
    pending = None
    for number in range(1, 8):
        said = Cancellation(
            run_id="clr_1", outcome=Outcome.UNCONFIRMED, reason="", request_ids=[f"req_{number}", f"req_{number}b"]
        )
        pending = after_attempt(said, 2, pending, NOW + timedelta(hours=number))
    assert (pending.attempts, pending.since) == (14, NOW + timedelta(hours=1))
    assert pending.request_ids[-1] == "req_7b"
    assert len(pending.request_ids) == 10


def test_a_cancel_that_hangs_is_reported_by_every_sweep(stage):
    on = stage(*[{"cancel_mode": "cancelling", "cancel_seconds": 90_000}] * 3)
    first = on.play()
    assert (first.counts, first.pending, first.needs_attention) == ({Outcome.UNCONFIRMED: 3}, [], True)
    alarms = []
    for sweep in range(1, 105):
        report = on.play(minutes=15)
        if on.extend.find("clr_0").status == "CANCELLED":
            break
        assert len(report.pending) == 3
        assert {each.attempts for each in report.pending} == {1}
        assert {each.status for each in report.pending} == {"CANCELLING"}
        alarms += [sweep] if report.needs_attention else []
        assert report.still_pending == (not report.needs_attention and sweep < 96)
        assert "3 still pending" in report.headline or "3 set aside" in report.headline
    assert alarms == [4, 24, 96]
    assert len(report.recovered) == 3
    assert report.pending == []
    assert sum(on.extend.posts[name]["clr_0"] for name in on.extend.posts) == 1


@pytest.mark.parametrize("fault", ["502", "409"])
def test_a_run_that_is_never_cancelled_is_asked_a_few_times(stage, fault):
    on = stage({"cancels": [fault] * 500}, {})
    alarms = []
    for sweep in range(200):
        on.extend.change("clr_1", "PROCESSING", updated=-7200.0)
        report = on.play(minutes=15)
        assert report.counts[Outcome.CANCELLED] == 1, "the other run never waits for it"
        alarms += [sweep] if report.needs_attention else []
    assert len(alarms) == 4
    assert sum(on.extend.posts[name]["clr_0"] for name in on.extend.posts) <= 4 * 4
    (left,) = report.pending
    assert left.set_aside
    assert (report.needs_attention, report.still_pending) == (False, False)
    on.extend.meanwhile.clear()
    on.begin(named=True)
    on.recover()
    (cancellation,) = on.run(on.sweep.cancel_batch([on.target("clr_0")]))
    assert cancellation.outcome is Outcome.CANCELLED
    assert on.prefect.intents == {}


def test_a_run_that_could_not_be_read_is_asked_once_it_can(stage):
    on = stage({"gets": ["502"]})
    assert on.play().counts == {Outcome.ERROR: 1}
    on.extend.meanwhile["clr_0"].gets = ["502"]
    second = on.play(minutes=15)
    assert (second.counts, second.still_pending) == ({Outcome.DEFERRED: 1}, True)
    third = on.play(minutes=15)
    assert (third.counts, third.pending, third.needs_attention) == ({Outcome.CANCELLED: 1}, [], False)


def test_an_error_of_the_account_makes_no_run_wait(stage):
    on = stage(*[{"cancels": ["401"]}] * 3, {})
    report = on.play(refuse_account=True)
    assert report.counts[Outcome.ERROR]
    assert isinstance(on.sweep.stop.error, ExtendAuthError)
    on.extend.meanwhile.clear()
    report = on.play(minutes=15)
    assert (set(report.counts), report.pending) == ({Outcome.CANCELLED}, [])
    assert all(run.status == "CANCELLED" for run in on.extend.runs.values())


def test_a_run_that_alone_answers_401_stops_no_other(stage):
    on = stage({"cancels": ["401"] * 9}, {})
    report = on.play()
    assert report.counts == {Outcome.REFUSED: 1, Outcome.CANCELLED: 1}
    assert on.sweep.stop.reason is None


def test_a_run_whose_record_is_refused_alarms_as_others_do(stage):
    on = stage({})
    alarms = 0
    for sweep in range(100):
        report = on.play(minutes=15, refuse_records=True)
        alarms += report.needs_attention
        assert report.unrecorded == (sweep == 0)
        assert sweep == 0 or len(report.pending) == 1
    assert alarms == 4
    report = on.play(minutes=15)
    assert (len(report.recovered), report.pending) == (1, [])
    assert len(on.prefect.texts("clr_0")) == 1


def test_a_second_attempt_asks_again_and_reports_again(stage):
    on = stage({"cancels": ["502"] * 8})
    assert on.play().needs_attention
    first = on.journal.process.name
    report = on.play(second_attempt_of=first)
    assert (report.counts, report.needs_attention) == ({Outcome.UNCONFIRMED: 1}, True)
    report = on.play(second_attempt_of=on.journal.process.name)
    assert (report.counts, report.needs_attention) == ({Outcome.CANCELLED: 1}, False)
