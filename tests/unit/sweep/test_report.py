"""A report adds up, and says in one sentence what happened."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepReport

OUTCOMES = st.lists(st.sampled_from(Outcome), max_size=20)
FINE = {
    *(Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST, Outcome.SPARED),
    *(Outcome.NOT_FOUND, Outcome.DEFERRED, Outcome.WOULD_CANCEL),
}


def report_of(outcomes, **facts):
    cancellations = [
        Cancellation(run_id=f"clr_{n}", outcome=outcome, reason="why") for n, outcome in enumerate(outcomes)
    ]
    return SweepReport(**facts).with_cancellations(cancellations)


@given(OUTCOMES)
def test_the_counts_add_up_to_the_runs_selected(outcomes):
    report = report_of(outcomes)
    assert report.selected == len(outcomes) == sum(report.counts.values())
    assert report.counts == dict(Counter(outcomes))
    assert [each.outcome for each in report.cancellations] == outcomes
    assert all(report.counts[outcome] == outcomes.count(outcome) for outcome in Outcome)
    again = SweepReport.model_validate_json(report.model_dump_json())
    assert again.counts == report.counts
    assert again.counts[Outcome.ERROR] == outcomes.count(Outcome.ERROR)


@given(OUTCOMES)
def test_only_unconfirmed_refused_and_error_need_action(outcomes):
    assert report_of(outcomes).needs_attention == (not set(outcomes) <= FINE)


@pytest.mark.parametrize("facts", [{"refusal": "too many"}, {"trouble": "HTTP 401"}, {"unrecorded": 1}])
def test_what_stopped_a_sweep_needs_action_too(facts):
    assert SweepReport(**facts).needs_attention
    assert not SweepReport().needs_attention


@given(OUTCOMES, st.booleans(), st.sampled_from([None, 60]), st.sampled_from([None, "too many", ""]), st.integers(0, 3))
def test_a_headline_is_one_line_for_any_report(outcomes, dry_run, limit, refusal, unrecorded):
    report = report_of(outcomes, dry_run=dry_run, limit_minutes=limit, refusal=refusal, unrecorded=unrecorded)
    assert report.headline.strip()
    assert "\n" not in report.headline


@pytest.mark.parametrize("seconds", [7300, -7300])
def test_clocks_that_differ_stand_in_the_headline(seconds):
    report = report_of([], clock_difference_seconds=seconds)
    assert report.headline.endswith("; the clocks here and at Extend differ by 2 h 2 min")
    assert not report.needs_attention


@given(OUTCOMES)
def test_a_report_survives_json(outcomes):
    report = report_of(outcomes, kind=RunKind.PARSE, exempt={"held": 2})
    assert SweepReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (
            report_of([Outcome.CANCELLED] * 3 + [Outcome.FINISHED_FIRST], limit_minutes=60),
            "Cancelled 3 of 4 stale classify runs; 1 finished first",
        ),
        (report_of([Outcome.CANCELLED]), "Cancelled 1 of 1 classify run"),
        (
            report_of([Outcome.WOULD_CANCEL] * 2, limit_minutes=60, dry_run=True, kind=RunKind.PARSE),
            "Would cancel 2 of 2 stale parse runs",
        ),
        (
            report_of([Outcome.ERROR, Outcome.REFUSED], limit_minutes=60),
            "Cancelled 0 of 2 stale classify runs; 1 refused by Extend; 1 could not be read or cancelled",
        ),
        (
            report_of([Outcome.DEFERRED], trouble="401", unrecorded=2),
            "Cancelled 0 of 1 classify run; 1 deferred; 2 still to be recorded by the next sweep. Stopped early: 401",
        ),
        (SweepReport(limit_minutes=60), "No stale classify runs to cancel"),
        (
            SweepReport(limit_minutes=60, exempt={"too_young": 3, "held": 1}),
            "No stale classify runs to cancel (3 too young, 1 held)",
        ),
        (SweepReport(refusal="30 are stale"), "Refused, nothing was cancelled: 30 are stale"),
    ],
)
def test_the_headline_says_what_happened(report, headline):
    assert report.headline == headline


def test_an_outcome_cannot_be_changed_afterwards():
    cancellation = Cancellation(run_id="clr_1", outcome=Outcome.SPARED, reason="why")
    with pytest.raises(ValueError, match="frozen"):
        cancellation.outcome = Outcome.CANCELLED
