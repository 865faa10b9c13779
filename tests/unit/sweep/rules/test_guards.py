"""The guards' decisions: what is too many, what counts towards an outage, and what speaks against one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.rules.guards import (
    is_sign_of_life,
    is_suspicious,
    outage_words,
    too_many,
    was_cancelled_lately,
    window_of,
)
from prefect_extend_ai.sweep.rules.policy import StalePolicy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT = timedelta(minutes=60)


def a_run(status, updated, created=None, kind="classify", **fields):
    def at(minutes):
        return (NOW - timedelta(minutes=minutes)).isoformat() if isinstance(minutes, int | float) else minutes

    times = {"updatedAt": at(updated), "createdAt": at(updated if created is None else created)}
    return Run.from_item(kind, {"id": "r_1", "status": status} | times | fields)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_than_refuse_above_is_refused_with_both_numbers(stale, above):
    said = too_many(stale, StalePolicy(refuse_above=above))
    assert (said is not None) == (stale > above)
    assert said is None or (str(stale) in said and str(above) in said)


@given(st.integers(0, 40), st.integers(0, 40))
def test_twenty_in_all_are_suspicious_however_they_are_split(stale, cancelled):
    assert is_suspicious(stale, cancelled) == (stale + cancelled >= 20)


@pytest.mark.parametrize(("minutes", "hours"), [(1, 4), (60, 4), (120, 4), (240, 6), (300, 7)])
def test_a_cancel_counts_for_four_hours_or_beyond_the_limit(minutes, hours):
    assert window_of(timedelta(minutes=minutes)) == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("run", "counts"),
    [
        (a_run("CANCELLED", 0), True),
        (a_run("CANCELLED", 240), True),
        (a_run("CANCELLED", 241), False),
        (a_run("CANCELLED", 30, created=9000), True),
        (a_run("FAILED", 30, failureReason="ABORTED"), True),
        (a_run("FAILED", 30, failureReason="REQUEST_ABORTED", kind="verify"), True),
        (a_run("CANCELLING", 30, kind="workflow"), True),
        (a_run("FAILED", 30, failureReason="INTERNAL_ERROR"), False),
        (a_run("FAILED", 30), False),
        (a_run("PROCESSED", 30), False),
        (a_run("PROCESSING", 30), False),
        (a_run("CANCELLED", "2099-01-01T00:00:00Z"), False),
        (a_run("CANCELLED", None), False),
    ],
)
def test_only_a_recent_cancel_by_anybody_counts(run, counts):
    assert was_cancelled_lately(run, NOW, LIMIT) is counts


@pytest.mark.parametrize(
    ("run", "alive"),
    [
        (a_run("PROCESSED", 0), True),
        (a_run("PROCESSED", 60, created=240), True),
        (a_run("PROCESSED", 61), False),
        (a_run("PROCESSED", 5, created=241), False),
        (a_run("PROCESSED", 5, edited=True), False),
        (a_run("PROCESSED", 5, reviewed=True), False),
        (a_run("PROCESSED", 5, edited=False, reviewed=False), True),
        (a_run("PROCESSED", 5, kind="workflow", reviewedAt="2026-03-01T11:59:00Z"), False),
        (a_run("PROCESSED", 5, kind="workflow", reviewedByUser="a@example.com"), False),
        (a_run("PROCESSED", 5, kind="workflow", reviewedAt=None, reviewedByUser=None), True),
        (a_run("NEEDS_REVIEW", 5, kind="workflow"), True),
        (a_run("NEEDS_REVIEW", 5), False),
        (a_run("REJECTED", 5, kind="workflow"), False),
        (a_run("FAILED", 5, failureReason="INTERNAL_ERROR"), False),
        (a_run("FAILED", 5, failureReason="OCR_ERROR"), False),
        (a_run("CANCELLED", 5), False),
        (a_run("PROCESSED", "2099-01-01T00:00:00Z", created=5), False),
        (a_run("PROCESSED", 5, created="2099-01-01T00:00:00Z"), False),
        (a_run("PROCESSED", -1), False),
        (a_run("PROCESSED", -0.02), True),
        (a_run("PROCESSED", 5, created="yesterday"), False),
        (a_run("PROCESSED", None, created=5), False),
    ],
)
def test_only_a_run_begun_and_finished_lately_shows_life(run, alive):
    assert is_sign_of_life(run, NOW, LIMIT) is alive


@pytest.mark.parametrize(("limit", "created", "alive"), [(120, 480, True), (120, 481, False), (1, 240, True)])
def test_a_long_limit_lets_a_sign_of_life_have_begun_earlier(limit, created, alive):
    assert is_sign_of_life(a_run("PROCESSED", 0, created=created), NOW, timedelta(minutes=limit)) is alive


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from(["PROCESSED", "CANCELLED", "NEEDS_REVIEW", "NEW"]),
    st.sampled_from(RunKind),
    st.integers(1, 5_256_000),
)
def test_times_of_any_year_are_judged_and_break_nothing(now, moment, status, kind, minutes):
    run, limit = a_run(status, moment.isoformat(), kind=kind), timedelta(minutes=minutes)
    if is_sign_of_life(run, now, limit) or was_cancelled_lately(run, now, limit):
        assert moment - now <= timedelta(seconds=2)


def test_a_refusal_says_what_was_counted_and_how_it_ends():
    assert outage_words(25, 0, LIMIT).startswith("25 runs are stale and none has finished within the last 60 minutes")
    assert "1 run is stale, 19 or more were cancelled within the last 4 hours" in outage_words(1, 19, LIMIT)
    assert "go on by themselves once a run finishes" in outage_words(25, 0, LIMIT)
