"""A listing may end early only where its order is shown, whichever order a server really keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.rules.ordering import ORDER_SHOWN_BY, Order

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def ago(minutes):
    return None if minutes is None else (NOW - timedelta(minutes=minutes)).isoformat()


def a_run(updated, created=None):
    return Run.from_item("classify", {"id": "r", "updatedAt": ago(updated), "createdAt": ago(created)})


def seen(order, minutes):
    for each in minutes:
        order.see(a_run(each, each))
    return order


# Runs by minutes since their creation, and since their last change, which came later.
RUNS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 100)).map(lambda times: (times[0], max(0, times[0] - times[1]))),
    max_size=80,
)
KEPT = {"by_change": 1, "by_creation": 0}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("sort_by", ["updatedAt", "createdAt"])
@given(runs=RUNS)
def test_nothing_old_comes_after_an_early_end(kept, sort_by, runs):
    runs = sorted(runs, key=lambda times: -times[KEPT[kept]])
    order, wanted = Order(sort_by), 1 if sort_by == "updatedAt" else 0
    for number, (created, updated) in enumerate(runs):
        order.see(a_run(updated, created))
        if order.rest_is_young(NOW, HOUR):
            assert all(times[wanted] <= 60 for times in runs[number:])


@given(RUNS, st.randoms(use_true_random=False))
def test_a_listing_in_no_order_never_ends_early(runs, random):
    random.shuffle(runs)
    changes = [updated for _, updated in runs]
    order = Order()
    for created, updated in runs:
        order.see(a_run(updated, created))
    assert order.is_shown == (len(set(changes)) >= ORDER_SHOWN_BY and changes == sorted(changes, reverse=True))


def test_an_order_is_shown_by_different_times_only():
    assert not seen(Order(), [50] * 100).is_shown
    assert not seen(Order(), range(50, 50 - ORDER_SHOWN_BY + 1, -1)).is_shown
    assert seen(Order(), range(50, 50 - ORDER_SHOWN_BY, -1)).is_shown
    assert not seen(Order(), [*range(50, 20, -1), 25]).is_shown
    assert seen(Order(descending=True), range(20, 50)).is_shown
    assert not seen(Order(descending=True), range(50, 20, -1)).is_shown


def test_times_that_cannot_be_read_show_nothing():
    order = Order()
    for _ in range(50):
        order.see(a_run(None))
    assert not order.is_shown
    assert not order.rest_is_young(NOW, HOUR)
    assert order.last is None
