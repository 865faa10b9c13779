"""What each read of a run means, exhaustively."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from prefect_extend_ai.report import Outcome
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.steps import MAX_POSTS, REFUSAL_READS, Answered, Step, Tried, ended, next_step

STATUSES = ["PROCESSING", "PENDING", "PROCESSED", "FAILED", "CANCELLED", "CANCELLING", "REJECTED", "NEW", None]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = (NOW - timedelta(hours=2)).isoformat()


def a_run(status="PROCESSING", kind="classify", updated=OLD, **fields):
    raw = {"id": "clr_1", "status": status, "updatedAt": updated, "createdAt": OLD, "output": None} | fields
    return Run.from_text(kind, json.dumps(raw), NOW)


def every_case():
    """Every combination of what `next_step` looks at, those that no history leads to included."""
    triers = [
        Tried(posts=posts, last=last, may_have_taken=taken, reads_since=reads)
        for posts in range(MAX_POSTS + 2)
        for last in (None, *Answered)
        for taken in (False, True)
        for reads in range(REFUSAL_READS + 2)
    ]
    runs = [
        a_run(status, kind, failureReason=why) for status in STATUSES for kind in RunKind for why in (None, "ABORTED")
    ]
    return itertools.product(runs, triers, (None, "no longer stale"), (False, True))


def test_every_read_and_history_leads_to_a_step_that_keeps_the_promises():
    seen = 0
    for run, tried, spare, late in every_case():
        seen += 1
        step = next_step(run, tried, spare, late=late)
        case = f"{run!r} {run.failure_reason} {tried} {spare=} {late=} -> {step}"
        if step is Step.CANCEL:
            assert spare is None, case
            assert not run.is_terminal, case
            assert tried.posts < MAX_POSTS, case
            assert not late, case
            assert tried.last not in (Answered.ACCEPTED, Answered.REFUSED), case
        if run.is_terminal:
            aborted = run.status == "FAILED" and run.failure_reason == "ABORTED"
            assert (step is Outcome.CANCELLED) == (tried.may_have_taken and (run.status == "CANCELLED" or aborted)), (
                case
            )
            assert (step is Outcome.ALREADY_CANCELLED) == (run.status == "CANCELLED" and not tried.may_have_taken), case
            assert step in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST), case
        else:
            assert step not in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST), case
            assert step not in (Outcome.NOT_FOUND, Outcome.DEFERRED, Outcome.WOULD_CANCEL), case
            # A late read always ends it: every wait has a deadline.
            assert not (late and isinstance(step, Step)), case
        if step is Outcome.SPARED:
            assert spare is not None, case
            assert not tried.may_have_taken, case
        if step is Outcome.UNCONFIRMED:
            assert late, case
        if step is Outcome.REFUSED:
            assert tried.last is Answered.REFUSED, case
            assert not tried.may_have_taken, case
            assert run.status in run.kind.cancellable, case
    assert seen > 20_000


def test_a_cancel_that_may_have_taken_is_never_given_up_before_the_deadline():
    for run, tried, spare, late in every_case():
        if tried.may_have_taken and not run.is_terminal and not late:
            assert isinstance(next_step(run, tried, spare, late=late), Step)


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
def test_how_a_run_ended_is_told_by_its_status(status, reason, ours, outcome):
    assert ended(a_run(status, failureReason=reason), ours=ours) is outcome
