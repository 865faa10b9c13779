"""What a sweep knows from the sweeps before it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.history import HOLD_LASTS, HOLDS, HOLDS_META, SWEEPS, SWEEPS_META, History, Hold, PastSweep
from prefect_extend_ai.sweep.report import Outcome, SweepReport
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.rules.staleness import held_words
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.selectors import Selection

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = StalePolicy()
HELD = held_words(POLICY)

counts = st.integers(0, 5000)
sweeps = st.builds(
    lambda minutes, stale, cancelled, failed, ended: PastSweep(
        NOON + timedelta(minutes=minutes), stale, cancelled, failed, ended > 0, ended > 1
    ),
    *(counts,) * 4,
    st.integers(0, 2),
)
holds = st.dictionaries(st.text(max_size=40), st.builds(Hold, *(st.integers(0, 2**32),) * 2), max_size=5)


def target(run_id, changed=NOON - timedelta(hours=9)):
    return Target(run_id, updated_at=changed)


def report(*cancellations, at=NOON, **facts):
    found = SweepReport(kind=RunKind.WORKFLOW, limit_minutes=60, looked_at=at, **facts)
    return found.with_cancellations(target(run_id).cancellation(*said) for run_id, *said in cancellations)


def swept(history, targets, held, at):
    """One sweep over these targets, of which those are held: its report, and the history after it."""
    selection = history.leave_out(Selection(targets, {"looked_at": at, "exempt": {}}))
    ended = [
        (each.run_id, Outcome.SPARED, HELD) if each.run_id in held else (each.run_id, Outcome.CANCELLED, "")
        for each in selection.targets
    ]
    done = report(*ended, at=at, exempt=selection.facts["exempt"])
    return History.note_holds(history, done, targets, POLICY)


@given(st.lists(sweeps, max_size=SWEEPS), holds)
def test_what_is_written_is_read_again(past, held):
    assert History.load(History(past, held).dump()) == History(past, held)


@given(st.lists(sweeps, max_size=80))
def test_no_more_than_thirty_sweeps_are_kept(past):
    history = History()
    for each in past:
        history = history.with_sweep(SweepReport(selected=each.stale), each.at)
        history = History.load(history.dump())
    assert [each.stale for each in history.sweeps] == [each.stale for each in past][-SWEEPS:]


@given(
    st.none()
    | st.dictionaries(
        st.sampled_from([SWEEPS_META, HOLDS_META]),
        st.text()
        | st.just("[[1,2,3,4,5]]")
        | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps),
    )
)
def test_metadata_that_nobody_can_read_are_no_history(metadata):
    assert len(History.load(metadata).sweeps) <= 1


def test_a_bar_is_what_the_report_says():
    done = report(("a", Outcome.CANCELLED, ""), ("b", Outcome.ERROR, ""), ("c", Outcome.DEFERRED, ""))
    assert PastSweep.of(done, NOON) == PastSweep(NOON, stale=3, cancelled=1, failed=1, alarm=True)
    assert PastSweep.of(report(refusal="an outage"), NOON) == PastSweep(NOON, alarm=True, stopped=True)
    assert PastSweep.of(report(), NOON) == PastSweep(NOON)


def test_a_lasting_outage_is_news_at_first_and_after_hours():
    history, hours = History(), []
    for minutes in range(0, 26 * 60, 60):
        now = NOON + timedelta(minutes=minutes)
        done = report(refusal="an outage") if minutes else report(trouble="401")
        if history.is_news(done, now):
            hours.append(minutes // 60)
        history = History.load(history.with_sweep(done, now).dump())
    assert hours == [0, 1, 6, 24]
    assert not history.is_news(report(), NOON)
    assert history.with_sweep(report(), NOON).is_news(report(refusal="another"), NOON)
    assert history.is_news(report(("a", Outcome.ERROR, "")), NOON)


def test_a_held_run_is_spared_once_and_exempt_from_then_on():
    targets, history, counts = [target("a"), target("b")], History(), []
    for sweep in range(24):
        done, history = swept(history, targets, {"a"}, NOON + timedelta(minutes=15 * sweep))
        counts.append((done.counts[Outcome.SPARED], done.exempt.get("held", 0), done.counts[Outcome.CANCELLED]))
    assert counts == [(1, 0, 1), *[(0, 1, 1)] * 23]


@pytest.mark.parametrize("what", ["time", "change"])
def test_a_hold_that_is_removed_is_noticed(what):
    _, history = swept(History(), [target("a")], {"a"}, NOON)
    later = NOON + (HOLD_LASTS if what == "time" else timedelta(minutes=15))
    changed = NOON - timedelta(hours=9 if what == "time" else 2)
    done, history = swept(history, [target("a", changed)], set(), later)
    assert (done.counts, done.exempt, history.holds) == ({Outcome.CANCELLED: 1}, {}, {})


def test_memory_of_holds_is_bounded_and_the_latest_stay():
    first, second = ([target(f"{name}{n}") for n in range(HOLDS - 100)] for name in "ab")
    _, history = swept(History(), first, {each.run_id for each in first}, NOON)
    _, history = swept(
        history, [*first, *second], {each.run_id for each in [*first, *second]}, NOON + timedelta(1 / 48)
    )
    assert len(history.holds) == HOLDS
    assert {each.run_id for each in second} <= history.holds.keys()


def test_a_sweep_that_listed_nothing_forgets_no_hold():
    _, history = swept(History(), [target("a")], {"a"}, NOON)
    done = SweepReport(kind=RunKind.WORKFLOW, limit_minutes=60, trouble="401")
    assert history.note_holds(done, [], POLICY) == (done, history)


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.integers(0, 300))
def test_every_stale_run_is_counted_once(stale, held, minutes):
    targets = [target(run_id) for run_id in sorted(stale)]
    _, history = swept(History(), targets, held, NOON)
    done, _ = swept(history, targets, held, NOON + timedelta(minutes=minutes))
    assert done.selected + done.exempt.get("held", 0) == len(stale)
    assert done.counts[Outcome.CANCELLED] == len(stale - held)
