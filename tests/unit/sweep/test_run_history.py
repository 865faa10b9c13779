"""What happened to one run, from all that tells of it: each thing once, oldest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai import Cancellation, Outcome, PendingCancel, RunKind, SweepReport
from prefect_extend_ai.sweep.chains import PendingResubmission
from prefect_extend_ai.sweep.journal import CancelIntent, Scope
from prefect_extend_ai.sweep.plans import ResubmitPlan
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource
from prefect_extend_ai.sweep.run_history import RunEvent, from_event, from_intent, from_report, merged

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SWEEPS = [UUID(int=number) for number in range(3)]
EVENTS = st.builds(
    RunEvent,
    at=st.integers(0, 1000).map(lambda minutes: NOON + timedelta(minutes=minutes)),
    outcome=st.sampled_from(["cancelled", "deferred", "unconfirmed"]),
    reason=st.none() | st.just("why"),
    flow_run_id=st.sampled_from(SWEEPS),
    record=st.none() | st.just(UUID(int=9)),
)


def an_intent(**options):
    scope = Scope(kind=RunKind.CLASSIFY, api_url="https://api.extend.ai")
    return CancelIntent(id=uuid4(), scope=scope, opened_at=NOON, flow_run_id=SWEEPS[0], **options)


def a_report(**options):
    ran = Cancellation(
        run_id="clr_1",
        outcome=Outcome.SPARED,
        reason="no longer stale",
        age_minutes=81.4,
        limit=Limit(60, LimitSource.PERSON),
    )
    return SweepReport(**options).with_cancellations([ran, ran.model_copy(update={"run_id": "clr_2"})])


@given(st.lists(EVENTS, max_size=12))
def test_each_outcome_of_a_sweep_is_told_once_oldest_first(found):
    history = merged(found)
    keys = [(each.flow_run_id, each.outcome) for each in history]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(each.flow_run_id, each.outcome) for each in found}
    assert [each.at for each in history] == sorted(each.at for each in history)
    for each in history:
        same = [other for other in found if (other.flow_run_id, other.outcome) == (each.flow_run_id, each.outcome)]
        assert each.at == min(other.at for other in same)
        # Nothing that one source knows is lost.
        assert (each.reason is None) == all(other.reason is None for other in same)
        assert (each.record is None) == all(other.record is None for other in same)


def test_events_without_a_flow_run_are_told_apart_by_their_times():
    lone = [RunEvent(at=NOON + timedelta(hours=hours), outcome="cancelled") for hours in range(3)]
    assert merged([*lone, lone[0]]) == lone


def test_a_report_tells_why_and_a_dry_run_tells_nothing():
    (entry,) = from_report(a_report(), "clr_1", NOON, SWEEPS[1])
    assert (entry.outcome, entry.reason) == ("spared", "no change for 81 min, limit 60 min; no longer stale")
    assert list(from_report(a_report(), "clr_3", NOON, SWEEPS[1])) == []
    assert list(from_report(a_report(dry_run=True), "clr_1", NOON, SWEEPS[1])) == []


def test_a_recovered_run_is_told_by_the_sweep_that_recovered_it():
    ended = Cancellation(run_id="clr_9", outcome=Outcome.FINISHED_FIRST, reason="ended", record=UUID(int=9))
    (entry,) = from_report(SweepReport(recovered=[ended]), "clr_9", NOON, SWEEPS[2])
    assert (entry.outcome, entry.record, entry.flow_run_id) == ("finished_first", UUID(int=9), SWEEPS[2])


def test_an_event_of_a_successor_belongs_to_its_cancel():
    name = "extend.classify_run.resubmitted"
    event = from_event(name, NOON, {"resubmitted_as": "clr_8"}, SWEEPS[0])
    cancelled = from_event("extend.classify_run.cancelled", NOON, {"outcome": "cancelled"}, SWEEPS[0])
    assert event is not None
    assert cancelled is not None
    (entry,) = merged([cancelled, event])
    assert (entry.outcome, entry.resubmitted_as) == ("cancelled", "clr_8")


def test_a_later_sweep_that_submits_again_did_not_cancel():
    event = from_event(
        "extend.classify_run.resubmitted", NOON + timedelta(hours=1), {"resubmitted_as": "clr_8"}, SWEEPS[1]
    )
    cancelled = from_event("extend.classify_run.cancelled", NOON, {"outcome": "cancelled"}, SWEEPS[0])
    assert event is not None
    assert cancelled is not None
    facts = {"run_id": "clr_1", "first_run": "clr_1", "attempt": 1, "since": NOON}
    found = PendingResubmission(**facts, resubmission="submitted", resubmitted_as="clr_8", reason="submitted again")
    said = from_report(SweepReport(resubmissions=[found]), "clr_1", event.at, SWEEPS[1])
    first, second = merged([cancelled, event, *said])
    assert (first.outcome, first.resubmitted_as) == ("cancelled", None)
    assert (second.outcome, second.resubmitted_as, second.reason) == ("resubmitted", "clr_8", "submitted again")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"resubmission": "unknown", "is_news": True, "is_looked_for": True}, ["unknown"]),
        ({"resubmission": "unknown", "is_looked_for": True}, []),
        ({"resubmission": "unknown"}, ["unknown"]),
        ({"resubmission": "ineligible"}, ["ineligible"]),
        ({"resubmission": "given_up"}, ["given_up"]),
        ({}, []),
    ],
)
def test_what_sweep_after_sweep_says_of_a_document_is_told_once(facts, told):
    known = PendingResubmission(run_id="clr_1", first_run="clr_1", attempt=1, since=NOON, reason="why", **facts)
    found = from_report(SweepReport(resubmissions=[known]), "clr_1", NOON, SWEEPS[0])
    assert [each.outcome for each in found] == told


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("planned", "the next sweep that is not refused does"),
        ("sending", "interrupted while it submitted it again"),
        ("unknown", "prefect_extend_resubmit_of clr_1"),
    ],
)
def test_an_open_entry_says_what_is_left_of_a_document(state, words):
    plan = ResubmitPlan(first_run="clr_1", attempt=1, planned_at=NOON, state=state)
    entry = from_intent(an_intent(run_ids=["clr_2"], resubmit={"clr_1": plan}), "clr_1")
    assert entry is not None
    assert (entry.outcome, entry.at) == ("pending", NOON)
    assert words in (entry.reason or "")


def test_an_event_that_cannot_be_read_is_left_out():
    assert from_event("extend.classify_run.cancelled", NOON, {"record": "no id"}, None) is None


def test_an_open_entry_says_what_is_known_and_what_is_not():
    interrupted = an_intent(run_ids=["clr_1"])
    entry = from_intent(interrupted, "clr_1")
    assert entry is not None
    assert (entry.outcome, entry.at, entry.flow_run_id) == ("pending", NOON, SWEEPS[0])
    assert from_intent(interrupted, "clr_2") is None
    known = PendingCancel(run_id="clr_1", since=NOON, attempts=2, outcome=Outcome.UNCONFIRMED, status="PROCESSING")
    entry = from_intent(an_intent(run_ids=["clr_1"], known={"clr_1": known}), "clr_1")
    assert entry is not None
    assert entry.outcome == "unconfirmed"
    assert entry.reason == "still open: 2 cancels sent, last status PROCESSING; sweeps read it again"
