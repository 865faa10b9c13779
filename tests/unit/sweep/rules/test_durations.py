"""How long healthy runs took, held against brute force; and the backtest, held against an exact replay."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.rules.durations import Durations, duration_of
from prefect_extend_ai.sweep.rules.staleness import StalePolicy, assess

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
spans = st.lists(st.integers(0, 60 * 500).map(lambda seconds: timedelta(seconds=seconds)), max_size=60)
shares = st.integers(1, 100).map(lambda hundredths: Fraction(hundredths, 100))
seeds = st.integers(0, 2**32)


def finished(minutes=0.0, **fields):
    facts = {
        "id": "clr_1",
        "status": "PROCESSED",
        "createdAt": (NOW - timedelta(minutes=minutes)).isoformat(),
        "updatedAt": NOW.isoformat(),
    }
    return Run.from_text("classify", json.dumps(facts | fields), NOW)


def log_normal(seed, runs=200):
    """Durations such as an account has, with a random median and spread."""
    rng = random.Random(seed)
    median, spread = rng.uniform(1, 90), rng.uniform(0.1, 1.5)
    return [timedelta(minutes=median * math.exp(rng.gauss(0, spread))) for _ in range(runs)]


@given(spans, shares)
def test_a_quantile_is_the_least_that_enough_did_not_exceed(durations, share):
    enough = [each for each in durations if sum(other <= each for other in durations) >= share * len(durations)]
    assert Durations(durations).quantile(share) == min(enough, default=None)


@given(spans, st.integers(1, 600))
def test_a_backtest_counts_what_took_longer(durations, minutes):
    longer = sum(each > timedelta(minutes=minutes) for each in durations)
    assert Durations(durations).longer_than(minutes) == longer
    assert Durations(durations).longest == max(durations, default=None)
    assert len(Durations(durations)) == len(durations)


@given(seeds, st.sampled_from([15, 30, 60, 120, 240]))
def test_the_backtest_is_what_a_sweep_would_have_done(seed, limit):
    """Each run is put back to its last moment in progress, and asked of the sweep's own decision."""
    durations = log_normal(seed, runs=50)
    cancelled = 0
    for each in durations:
        created = (NOW - each).isoformat()
        run = finished(status="PROCESSING", createdAt=created, updatedAt=created)
        cancelled += assess(run, now=NOW, max_processing_minutes=limit, policy=StalePolicy()) is None
    assert Durations(durations).longer_than(limit) == cancelled


@given(seeds, st.integers(0, 100))
def test_a_suggestion_is_half_again_the_99th_percentile(seed, runs):
    durations = log_normal(seed, runs)
    suggestion = Durations(durations).suggestion()
    if runs < 20:
        assert suggestion is None
        return
    p99 = sorted(durations)[math.ceil(len(durations) * 99 / 100) - 1]
    fits = [minutes for minutes in range(15, 200_000, 5) if timedelta(minutes=minutes) >= p99 * 1.5]
    assert suggestion == fits[0]


@given(seeds)
def test_a_suggested_limit_spares_99_of_100(seed):
    durations = Durations(log_normal(seed))
    assert durations.longer_than(durations.suggestion()) <= len(durations) / 100


@given(seeds, st.integers(1, 300))
def test_a_limit_is_exceeded_where_the_suggestion_is_longer(seed, minutes):
    durations = Durations(log_normal(seed, runs=20))
    assert durations.exceeds(minutes) == (durations.quantile(Fraction(99, 100)) * 1.5 > timedelta(minutes=minutes))
    assert not durations.exceeds(durations.suggestion())


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "PROCESSING"},
        {"status": "FAILED"},
        {"status": "CANCELLED"},
        {"reviewed": True},
        {"edited": True},
        {"reviewedAt": "2026-03-01T11:00:00Z"},
        {"createdAt": None},
        {"updatedAt": "soon"},
        {"createdAt": "2026-03-01T12:00:01Z"},
    ],
)
def test_only_a_run_that_finished_untouched_has_a_duration(fields):
    assert duration_of(finished(30, **fields)) is None
    assert duration_of(finished(30)) == 30 * MINUTE
