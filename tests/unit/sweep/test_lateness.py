"""Late sweeps: one does the work of many, and none is left undone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.sweep.lateness import LATE, SweepRun, is_late, superseded_by

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAME = {"kind": "classify"}


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def run(due, started, name="late", **facts):
    defaults = {"by_schedule": True, "parameters": SAME}
    return SweepRun(name, at(due), at(started), **defaults | facts)


DONE = run(100, 119, "done", completed=True)
LATE_ONE = run(60, 120)


@pytest.mark.parametrize(
    ("other", "skips"),
    [
        (DONE, True),
        (replace(DONE, by_schedule=False), True),
        (replace(DONE, completed=False, alive=True), True),
        (replace(DONE, completed=False), False),
        (replace(DONE, skipped=True), False),
        (replace(DONE, parameters={"kind": "extract"}), False),
        (replace(DONE, started=at(59)), False),
        (replace(DONE, started=at(60)), False),
        (replace(DONE, started=at(121), completed=False, alive=True), False),
    ],
)
def test_only_a_sweep_that_does_the_work_makes_it_unnecessary(other, skips):
    assert (superseded_by(LATE_ONE, [other]) is not None) is skips


@pytest.mark.parametrize("facts", [{"by_schedule": False}, {"due": at(119.5)}, {"due": at(120)}])
def test_one_started_by_hand_or_in_time_is_never_skipped(facts):
    assert superseded_by(replace(LATE_ONE, **facts), [DONE]) is None


def test_an_alive_one_that_is_skipped_itself_does_not_count():
    # It began after 12:20, but does nothing, because of one that began at 12:15.
    between = run(10, 31, "between", alive=True)
    before = run(14, 15, "before", completed=True)
    assert superseded_by(between, [before]) == before
    assert superseded_by(run(20, 32), [before, between]) is None


class Week:
    """Sweeps of one deployment, begun one after another; each decides as the flow does, by what Prefect shows then."""

    def __init__(self, sweeps):
        """Each: minutes when due, when its process has started, and how long it works."""
        begun = [
            (SweepRun(f"{n:03}", at(due), at(due + late), by_schedule=True, parameters=SAME), works)
            for n, (due, late, works) in enumerate(sweeps)
        ]
        self.sweeps = sorted(begun, key=lambda each: (each[0].started, each[0].id))
        self.worked, self.skipped = [], []
        for this, works in self.sweeps:
            other = superseded_by(this, self.shown(this.started))
            (self.worked if other is None else self.skipped).append((this, timedelta(minutes=works)))

    def shown(self, now):
        """The flow runs that have begun, as Prefect shows them."""
        ended = [(each, now >= each.started + works) for each, works in self.worked]
        done = [replace(each, completed=over, alive=not over) for each, over in ended]
        return done + [replace(each, completed=True, skipped=True) for each, _ in self.skipped]


def test_nine_sweeps_after_an_absence_are_the_work_of_one():
    week = Week([(15 * n, 135 - 15 * n + n / 60, 3) for n in range(9)])
    assert [each.id for each, _ in week.worked] == ["000"]
    assert len(week.skipped) == 8


@pytest.mark.parametrize(("start_up", "works"), [(2, 0.2), (5, 1), (5, 7), (30, 3), (60, 20)])
def test_a_start_up_longer_than_the_interval_starves_nothing(start_up, works):
    # Due each minute, and each process takes longer than that to start: every sweep is late.
    week = Week([(n, start_up, works) for n in range(600)])
    begun = [each.started for each, _ in week.worked]
    gaps = [after - before for before, after in itertools.pairwise(begun)]
    assert all(is_late(each) for each, _ in week.sweeps)
    assert max(gaps) <= timedelta(minutes=start_up + 1)
    assert len(week.worked) >= 600 // (start_up + 1)


delays = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=40)


@given(delays, st.sampled_from([1, 5, 15]))
def test_after_the_due_time_of_a_skipped_one_one_has_worked(late, interval):
    week = Week([(interval * n, *facts) for n, facts in enumerate(late)])
    for skipped, _ in week.skipped:
        assert is_late(skipped)
        assert any(skipped.due < each.started <= skipped.started for each, _ in week.worked)


@given(delays)
def test_sweeps_that_fail_make_none_unnecessary(late):
    others = [run(15 * n, 15 * n + each, f"{n}") for n, (each, _) in enumerate(late)]
    assert superseded_by(run(0, 1000), others) is None


def test_a_few_seconds_are_not_late():
    assert not is_late(run(0, LATE / timedelta(minutes=1)))
