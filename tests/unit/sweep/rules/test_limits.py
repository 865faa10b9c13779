"""Which limit a run has: the sweep's, its processor's, a learned one, or its own; held against a plain oracle."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource, ignores_own_limit, limit_of, own_limit
from prefect_extend_ai.sweep.rules.policy import LONGEST_MINUTES
from prefect_extend_ai.sweep.rules.staleness import Exempt, StalePolicy, assess, limit_passed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
minutes = st.integers(1, 500)
LIMITS = ["named", "learned", "own", "total"]
NO_NUMBERS = [True, False, "90", "", [90], {"minutes": 90}, -1, -0.5, math.nan, math.inf, -math.inf]


def a_run(own=None, processor="cl_a", age=120.0, created=None, **metadata):
    facts = {
        "id": "clr_1",
        "status": "PROCESSING",
        "classifier": {"id": processor} if processor else None,
        "createdAt": (NOW - timedelta(minutes=age if created is None else created)).isoformat(),
        "updatedAt": (NOW - timedelta(minutes=age)).isoformat(),
        "metadata": ({} if own is None else {"prefect_max_minutes": own}) | metadata,
    }
    return Run.from_text("classify", json.dumps(facts), NOW)


@given(minutes, st.none() | minutes, st.none() | minutes, st.none() | minutes)
def test_the_processors_limit_wins_and_a_runs_own_only_lengthens(sweeps, named, learned, own):
    policy = StalePolicy(minutes_by_processor={} if named is None else {"cl_a": named})
    limit = limit_of(a_run(own), sweeps, policy, learned)
    base = named if named is not None else max(sweeps, learned or 0)
    assert limit.minutes == max(base, own or 0)
    if own is not None and own > base:
        assert limit.source is LimitSource.RUN
    elif named is not None:
        assert limit.source is LimitSource.PROCESSOR
    else:
        assert limit.source is (LimitSource.LEARNED if learned and learned > sweeps else LimitSource.PERSON)


@given(st.floats(0, 500), minutes, st.fixed_dictionaries({name: st.none() | minutes for name in LIMITS}))
def test_learning_spares_and_never_selects(age, sweeps, limits):
    named, total = limits["named"], limits["total"]
    policy = StalePolicy(max_total_minutes=total, minutes_by_processor={} if named is None else {"cl_a": named})
    run = a_run(limits["own"], age=age, created=age + 30)
    without = assess(run, now=NOW, max_processing_minutes=sweeps, policy=policy)
    with_it = assess(run, now=NOW, max_processing_minutes=sweeps, policy=policy, learned_minutes=limits["learned"])
    if with_it is Exempt.USUAL_FOR_PROCESSOR:
        assert without is None
        assert named is None
        assert total is None or age + 30 <= total
        assert sweeps < age <= limits["learned"]
    else:
        assert with_it is without


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_ignored(value):
    run = a_run(value)
    assert own_limit(run) is None
    assert ignores_own_limit(run)
    assert limit_of(run, 60, StalePolicy()) == Limit(60, LimitSource.PERSON)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(90, 90), (90.2, 91), (0, 0), (1e300, LONGEST_MINUTES), (LONGEST_MINUTES + 1, LONGEST_MINUTES)],
)
def test_a_runs_own_limit_is_whole_minutes_rounded_up(value, expected):
    assert own_limit(a_run(value)) == expected
    assert not ignores_own_limit(a_run(value))


def test_a_run_without_a_limit_of_its_own_has_none():
    for run in (a_run(), a_run(None), a_run(prefect_max_minutes=None)):
        assert own_limit(run) is None
        assert not ignores_own_limit(run)


def test_the_key_may_be_spelled_like_the_hold_key():
    assert own_limit(a_run(**{"prefect-max-minutes": 90})) == 90
    assert own_limit(a_run(prefectMaxMinutes=90, prefect_max_minutes=80)) == 90
    assert own_limit(a_run(max_minutes=90)) is None


@pytest.mark.parametrize(
    ("own", "age", "created", "passed"),
    [
        (None, 61, 61, Limit(60, LimitSource.PERSON)),
        (90, 91, 91, Limit(90, LimitSource.RUN)),
        (None, 10, 241, Limit(240, LimitSource.TOTAL)),
        (300, 250, 250, Limit(240, LimitSource.TOTAL)),
        (None, 250, 250, Limit(60, LimitSource.PERSON)),
    ],
)
def test_a_stale_run_has_passed_a_limit_that_has_a_source(own, age, created, passed):
    policy = StalePolicy(max_total_minutes=240)
    run = a_run(own, age=age, created=created)
    assert assess(run, now=NOW, max_processing_minutes=60, policy=policy) is None
    assert limit_passed(run, NOW, 60, policy) == passed
