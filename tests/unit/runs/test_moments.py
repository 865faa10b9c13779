"""A moment is as old as the clock says that has gone furthest."""

from __future__ import annotations

import pickle

import pytest

from prefect_extend_ai.runs import Moment, duration


@pytest.mark.parametrize(
    ("monotonic", "wall", "age"),
    [
        (5, 5, 5),
        (0, 300, 300),  # the machine slept, and its monotonic clock with it
        (40, -3600, 40),  # the clock on the wall was set back
        (0, -1, 0),
    ],
)
def test_age_is_the_larger_of_what_two_clocks_say(monotonic, wall, age):
    then = Moment(100.0, 1e9)
    assert then.age(Moment(100.0 + monotonic, 1e9 + wall)) == age


def test_a_moment_before_is_older_by_both_clocks():
    then = Moment(100.0, 1e9)
    assert then.before(7).age(then) == 7


def test_a_moment_survives_pickling():
    then = Moment(100.0, 1e9)
    assert pickle.loads(pickle.dumps(then)) == then


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7169, "119 min"),
        (7199, "2 h"),
        (12024, "3 h 20 min"),
        (172800, "2 d"),
        (187500, "2 d 4 h"),
    ],
)
def test_a_duration_is_given_in_units_that_fit(seconds, text):
    assert duration(seconds) == text
