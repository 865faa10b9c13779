from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.sandbox import Behaviour
from prefect_extend_ai.sandbox.limits import Limiter, retry_after_header

START = datetime(2026, 3, 2, tzinfo=UTC)


@given(rate=st.sampled_from([0.5, 1.0, 10.0, 75.0]), gaps=st.lists(st.floats(0, 3), max_size=80))
def test_no_period_has_more_than_its_share_and_a_second_more(rate, gaps):
    limiter, now, passed = Limiter(rate), START, []
    for gap in gaps:
        now += timedelta(seconds=gap)
        if limiter.wait("GET", now) == 0:
            passed.append(now)
    capacity = max(1.0, rate)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span = (passed[last] - passed[first]).total_seconds()
            assert last - first + 1 <= span * rate + capacity + 1e-6


@given(rate=st.sampled_from([0.5, 1.0, 10.0, 25.0, 75.0]), seconds=st.integers(1, 20))
def test_an_evenly_paced_client_is_never_throttled(rate, seconds):
    limiter = Limiter(rate)
    moments = [START + timedelta(seconds=number / rate) for number in range(int(seconds * rate))]
    assert not any(limiter.wait("WRITE", moment) > 1e-5 for moment in moments)


def test_waiting_for_retry_after_is_enough():
    rate = 10
    limiter = Limiter(rate)
    assert [limiter.wait("GET", START) for _ in range(rate)] == [0] * rate
    wait = limiter.wait("GET", START)
    assert 0 < wait <= 1 / rate
    assert limiter.wait("GET", START + timedelta(seconds=wait)) == 0


def test_categories_do_not_share_and_no_rate_is_no_limit():
    limiter = Limiter(1)
    assert [limiter.wait(category, START) for category in ("GET", "WRITE", "RUN")] == [0, 0, 0]
    assert all(limiter.wait(category, START) for category in ("GET", "WRITE", "RUN"))
    assert not any(Limiter(None).wait("GET", START) for _ in range(1000))


def test_retry_after_comes_in_every_form():
    forms = Behaviour.model_fields["retry_after"].annotation.__args__
    said = {form: retry_after_header(form, 0.25, START).get("Retry-After") for form in forms}
    date = said.pop("date")
    assert parsedate_to_datetime(date) == START + timedelta(seconds=1)
    assert said == {"absent": None, "integer": "1", "fraction": "0.25", "zero": "0", "reset": None}
    assert retry_after_header("reset", 0.25, START) == {"X-RateLimit-Reset": str(int(START.timestamp()) + 1)}


@pytest.mark.parametrize("back", [1, 3600])
def test_a_clock_that_is_set_back_takes_nothing_away(back):
    limiter = Limiter(2)
    limiter.wait("GET", START)
    assert limiter.wait("GET", START - timedelta(seconds=back)) == 0
