"""What each read of a run means, exhaustively."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.decision import (
    MAX_ATTEMPTS,
    REFUSAL_READS,
    CancelHistory,
    CancelResponse,
    Step,
    ended,
    next_step,
    went_on,
)
from prefect_extend_ai.sweep.report import Outcome

STATUSES = [
    *("PROCESSING", "PENDING", "PROCESSED", "FAILED", "CANCELLED", "CANCELLING", "REJECTED", "NEEDS_REVIEW", "NEW"),
    None,
]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = (NOW - timedelta(hours=2)).isoformat()


def a_run(status="PROCESSING", kind="classify", updated=OLD, **fields):
    raw = {"id": "clr_1", "status": status, "updatedAt": updated, "createdAt": OLD, "output": None} | fields
    return Run.from_text(kind, json.dumps(raw), NOW)


def every_case():
    """Every combination of what `next_step` looks at, those that no history leads to included."""
    triers = [
        CancelHistory(attempts=posts, last_response=last, may_have_taken_effect=taken, reads_since=reads)
        for posts in range(MAX_ATTEMPTS + 2)
        for last in (None, *CancelResponse)
        for taken in {False, posts > 0}
        for reads in range(REFUSAL_READS + 2)
    ]
    runs = [
        a_run(status, kind, failureReason=why) for status in STATUSES for kind in RunKind for why in (None, "ABORTED")
    ]
    return itertools.product(runs, triers, (None, "no longer stale"), (False, True))


def test_each_read_and_history_leads_to_a_step_that_is_allowed():
    seen = 0
    for run, history, skip, late in every_case():
        seen += 1
        step = next_step(run, history, skip, late=late)
        case = f"{run!r} {run.failure_reason} {history} {skip=} {late=} -> {step}"
        if step is Step.CANCEL:
            assert skip is None, case
            assert not run.is_terminal, case
            assert history.attempts < MAX_ATTEMPTS, case
            assert not late, case
            assert history.last_response not in (CancelResponse.ACCEPTED, CancelResponse.REFUSED), case
        if run.is_terminal:
            aborted = run.status == "FAILED" and run.failure_reason == "ABORTED"
            ours = history.attempts > 0 and (run.status == "CANCELLED" or aborted)
            assert (step is Outcome.CANCELLED) == ours, case
            assert (step is Outcome.ALREADY_CANCELLED) == (run.status == "CANCELLED" and not history.attempts), case
            assert step in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST), case
        else:
            assert step not in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST), case
            assert step not in (Outcome.NOT_FOUND, Outcome.WOULD_CANCEL), case
            # A late read always ends it: every wait has a deadline.
            assert not (late and isinstance(step, Step)), case
        if step is Outcome.SPARED:
            assert skip is not None or went_on(run), case
            assert not history.may_have_taken_effect, case
        if step is Outcome.UNCONFIRMED:
            assert late, case
            assert history.attempts, case
        if step is Outcome.DEFERRED:
            assert late, case
            assert not history.attempts, case
        if step is Outcome.REFUSED:
            assert history.attempts, case
            assert not history.may_have_taken_effect, case
            assert run.status in run.kind.cancellable, case
    assert seen > 20_000


def test_a_cancel_that_may_have_taken_is_kept_to_the_deadline():
    for run, history, skip, late in every_case():
        if history.attempts and history.may_have_taken_effect and not run.is_terminal and not late:
            assert isinstance(next_step(run, history, skip, late=late), Step)


@pytest.mark.parametrize(
    ("status", "reason", "ours", "outcome"),
    [
        ("CANCELLED", None, True, Outcome.CANCELLED),
        ("CANCELLED", None, False, Outcome.ALREADY_CANCELLED),
        ("FAILED", "ABORTED", True, Outcome.CANCELLED),
        ("FAILED", "ABORTED", False, Outcome.FINISHED_FIRST),
        ("FAILED", "OCR_ERROR", True, Outcome.FINISHED_FIRST),
        ("PROCESSED", "ABORTED", True, Outcome.FINISHED_FIRST),
    ],
)
def test_how_a_run_ended_follows_from_its_status(status, reason, ours, outcome):
    assert ended(a_run(status, failureReason=reason), ours=ours) is outcome


@pytest.mark.parametrize(
    ("changed", "left", "updated", "kind", "before"),
    [
        # (seconds after the check's) last change, the moment our cancel left, and the last change at the end
        (0, 100, 50, "verify", True),
        (0, 100, 97.9, "verify", True),
        (0, 100, 98.5, "verify", False),  # within the clock's grain: ours may have been it
        (0, 100, 100.2, "verify", False),
        (0, 100, 0, "verify", False),  # a cancel does not move it: it says nothing
        (0, None, 50, "verify", False),
        (None, 100, 50, "verify", False),
        (0, 100, None, "verify", False),
        (0, 100, 50, "classify", False),  # only verify's cancel of an ended run is accepted
    ],
)
def test_a_foreign_cancel_is_recognised_by_the_runs_own_times(changed, left, updated, kind, before):
    def moment(seconds):
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    run = a_run("CANCELLED", kind, updated=None if updated is None else moment(updated).isoformat())
    history = CancelHistory(changed_at=moment(changed))
    history.on_accepted("req_1", moment(left))
    step = next_step(run, history, None)
    assert step is (Outcome.ALREADY_CANCELLED if before else Outcome.CANCELLED)


def test_only_the_first_cancel_says_when_ours_left():
    history = CancelHistory()
    history.on_sent(CancelResponse.LOST, "none")
    history.on_accepted("req_2", NOW)
    assert history.sent_at is None


@pytest.mark.parametrize("reads", range(REFUSAL_READS + 1))
def test_a_run_in_review_after_a_refusal_is_spared(reads):
    run = a_run("NEEDS_REVIEW", "workflow")
    step = next_step(
        run,
        CancelHistory(attempts=1, last_response=CancelResponse.REFUSED, reads_since=reads),
        "its status is NEEDS_REVIEW",
    )
    assert step is (Outcome.SPARED if reads >= REFUSAL_READS else Step.WAIT)


def test_a_cancel_under_way_after_a_refusal_is_waited_for():
    run = a_run("CANCELLING")
    history = CancelHistory(attempts=1, last_response=CancelResponse.REFUSED, reads_since=REFUSAL_READS)
    assert next_step(run, history, "its status is CANCELLING") is Step.WAIT
    assert next_step(run, history, "its status is CANCELLING", late=True) is Outcome.UNCONFIRMED


def test_a_404_to_a_cancel_is_asked_again():
    once = CancelHistory(attempts=1, last_response=CancelResponse.MISSING, reads_since=REFUSAL_READS)
    last = CancelHistory(attempts=MAX_ATTEMPTS, last_response=CancelResponse.MISSING, reads_since=REFUSAL_READS)
    assert next_step(a_run(), once, None) is Step.CANCEL
    assert next_step(a_run(), last, None) is Outcome.REFUSED
