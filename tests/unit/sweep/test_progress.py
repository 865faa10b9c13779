"""How far a long sweep has come, in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.sweep.progress import LONG_SECONDS, Progress


def test_after_the_scan_a_person_knows_how_long_it_takes():
    progress = Progress(total=400, stale=400, listed=520, rate=10, begun=0)
    assert progress.announcement() == "400 stale of 520 in progress; at 10 a second about 42 s"
    capped = Progress(total=500, stale=5000, listed=5200, rate=2.5, begun=0)
    assert (
        capped.announcement()
        == "5,000 stale of 5,200 in progress, 500 of them in this sweep; at 2.5 a second about 4 min"
    )
    assert Progress(200, 200, 0, 10, 0).announcement() == "200 runs by id; at 10 a second about 21 s"


def test_each_tenth_says_what_is_left():
    progress = Progress(total=400, stale=400, listed=520, rate=10, begun=100)
    messages = [words for n in range(1, 401) if (words := progress.settle(100 + n / 10)) is not None]
    assert len(messages) == 10
    assert messages[0] == "40 of 400 runs done in 4 s, about 36 s left"
    assert messages[-1] == "400 of 400 runs done in 40 s"


@given(st.integers(1, 2000), st.floats(0.5, 100))
def test_it_speaks_ten_times_at_most_and_ends_at_100(total, rate):
    progress = Progress(total, total, total, rate, 0)
    percents = [percent for n in range(total) if progress.settle(n) is not None and (percent := progress.percent) >= 0]
    assert percents == sorted(percents)
    assert len(percents) == min(total, 10)
    assert percents[-1] == 100


@pytest.mark.parametrize(("total", "is_long"), [(0, False), (40, False), (60, True)])
def test_a_sweep_of_some_seconds_tells_nothing(total, is_long):
    assert Progress(total, total, total, 10, 0).is_long is is_long
    assert LONG_SECONDS == 5
