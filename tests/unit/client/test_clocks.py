"""Neither clock is believed alone, and where they differ the times of runs say which is likely wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.client.clocks import ClockDifference, clock_words, compare_clocks, earlier

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOURS = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

moments = st.datetimes(timezones=st.just(UTC))


@given(st.none() | moments, st.none() | moments)
def test_now_is_never_later_than_either_clock_says(extend, ours):
    now = earlier(extend, ours)
    if extend is None or ours is None:
        assert now is None
    else:
        assert now == min(extend, ours)


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(minutes=2), timedelta(minutes=-2)])
def test_clocks_within_two_minutes_agree(ahead):
    assert compare_clocks(NOW + ahead, NOW, [NOW]) is None


@pytest.mark.parametrize(
    ("extend", "ours", "newest", "suspect"),
    [
        # A run changed at a time that has not come yet by the earlier clock.
        (NOW, NOW - 2 * HOURS, NOW - MINUTE, "ours"),
        (NOW - 2 * HOURS, NOW, NOW - MINUTE, "extend"),
        (NOW, NOW - 2 * HOURS, NOW - HOURS, "ours"),
        # The newest change was right before the earlier clock.
        (NOW + 2 * HOURS, NOW, NOW - MINUTE, "extend"),
        (NOW, NOW + 2 * HOURS, NOW - MINUTE, "ours"),
        (NOW, NOW + 2 * HOURS, NOW - 12 * MINUTE, "ours"),
        # Long ago by both, or in the future of both, or nothing.
        (NOW, NOW + 2 * HOURS, NOW - 13 * MINUTE, None),
        (NOW, NOW + 2 * HOURS, datetime(2099, 1, 1, tzinfo=UTC), None),
        (NOW, NOW + 2 * HOURS, None, None),
    ],
)
def test_the_newest_time_of_a_run_says_which_is_likely_wrong(extend, ours, newest, suspect):
    found = compare_clocks(extend, ours, [newest, NOW - 50 * HOURS, None, datetime(2099, 1, 1, tzinfo=UTC)])
    assert found == ClockDifference((extend - ours).total_seconds(), suspect)


@given(st.none() | moments, st.none() | moments, st.lists(st.none() | moments, max_size=3))
def test_any_two_clocks_can_be_compared(extend, ours, times):
    found = compare_clocks(extend, ours, times)
    assert (found is None) == (extend is None or ours is None or abs(extend - ours) <= timedelta(minutes=2))


@pytest.mark.parametrize(
    ("seconds", "suspect", "said"),
    [
        (7200, "ours", "Extend's clock is 2 h ahead of the local one. The local clock is likely the wrong one"),
        (-300, "extend", "Extend's clock is 5 min behind the local one. Extend's is likely the wrong one"),
        (-300000, None, "Extend's clock is 3 d 11 h behind the local one. The times of the runs do not show which"),
    ],
)
def test_a_difference_is_said_with_whose_is_likely_wrong(seconds, suspect, said):
    assert clock_words(seconds, suspect).startswith(said)
