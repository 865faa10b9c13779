"""What decides whether a document is submitted again, and with which request."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendInputError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
    SharedLimitError,
)
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep import NamedRuns, StaleRuns
from prefect_extend_ai.sweep.journal import CancelIntent, Scope
from prefect_extend_ai.sweep.plans import Request
from prefect_extend_ai.sweep.recovery.recovered import plans_to_keep
from prefect_extend_ai.sweep.report import Outcome, PendingCancel
from prefect_extend_ai.sweep.resubmission.plan import (
    ATTEMPT,
    FIRST_RUN,
    LARGEST_METADATA,
    NO_NUMBER,
    RESUBMIT_OF,
    RESUBMITTABLE,
    Place,
    Sent,
    can_be_ours,
    config_digest,
    place_of,
    plan_for,
    request_for,
    what_was_sent,
)
from prefect_extend_ai.sweep.rules.policy import StalePolicy

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def a_run(kind="classify", **facts):
    processor = RunKind(kind).processor
    raw = {
        "id": "clr_1",
        "status": "CANCELLED",
        "file": {"id": "file_1", "name": "a.pdf"},
        processor: {"id": "p_1"},
        f"{processor}Version": {"version": "2.1"},
        "config": {"a": 1, "b": None},
        "metadata": {"owner": "a"},
    } | facts
    return Run.from_text(kind, json.dumps(raw), NOON, date=NOON)


def a_plan(attempt=0, *, limit=2, why_not=None):
    place = Place("clr_0", attempt, "clr_0") if attempt else Place("clr_1")
    return plan_for(place, "clr_1", limit=limit, why_not=why_not)


def request(run, plan=None):
    found = request_for(run, plan or a_plan(), NOON)
    assert isinstance(found, Request), found
    return found.body


@pytest.mark.parametrize("kind", sorted(RESUBMITTABLE))
def test_a_request_names_file_processor_and_version(kind):
    assert request(a_run(kind)) == {
        "file": {"id": "file_1"},
        RunKind(kind).processor: {"id": "p_1", "version": "2.1"},
        "metadata": {"owner": "a", RESUBMIT_OF: "clr_1", FIRST_RUN: "clr_1", ATTEMPT: 1},
    }


def test_a_run_without_a_version_is_submitted_without_one():
    assert request(a_run(classifierVersion=None))["classifier"] == {"id": "p_1"}


def test_an_inline_config_is_taken_over_without_nulls():
    body = request(a_run(classifier=None, classifierVersion=None))
    assert body["config"] == {"a": 1}
    assert "classifier" not in body


def test_the_second_submission_keeps_the_first_run():
    metadata = {RESUBMIT_OF: "clr_0", FIRST_RUN: "clr_0", ATTEMPT: 1}
    assert request(a_run(metadata=metadata), a_plan(1))["metadata"] == {
        RESUBMIT_OF: "clr_1",
        FIRST_RUN: "clr_0",
        ATTEMPT: 2,
    }


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_metadata_is_taken_over_as_it_is(metadata):
    if place_of("clr_1", metadata) == Place("clr_1"):
        found = request(a_run(metadata=metadata))["metadata"]
        assert {name: value for name, value in found.items() if name in metadata} == metadata
        assert found.keys() - metadata.keys() == {RESUBMIT_OF, FIRST_RUN, ATTEMPT}


@given(st.integers(9_700, 10_100))
def test_metadata_is_never_larger_than_extend_takes(size):
    run = a_run(metadata={"a": "ä" * (size // 2)})
    found = request_for(run, a_plan(), NOON)
    if isinstance(found, str):
        assert "10 KB" in found
    else:
        text = json.dumps(found.body["metadata"], separators=(",", ":"), ensure_ascii=False)
        assert len(text.encode()) <= LARGEST_METADATA


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"file": None}, "no file"),
        ({"file": {"name": "a.pdf"}}, "no file"),
        ({"files": [{"id": "file_1"}, {"id": "file_2"}]}, "several files"),
        ({"classifier": None, "config": None}, "neither its processor nor its configuration"),
        ({"classifier": {"name": "no id"}}, "neither its processor nor its configuration"),
        ({"metadata": {"owner": "x" * 10_000}}, "10 KB"),
        ({"metadata": {RESUBMIT_OF: "clr_0", FIRST_RUN: "clr_0", ATTEMPT: 1}}, "metadata changed"),
    ],
)
def test_what_cannot_be_submitted_again_says_why(facts, why):
    assert why in request_for(a_run(**facts), a_plan(), NOON)


def test_metadata_that_is_nested_too_deeply_is_not_taken_over():
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    text = '{"id": "clr_1", "status": "CANCELLED", "file": {"id": "file_1"}, "metadata": ' + deep + "}"
    assert "cannot be taken over" in request_for(Run.from_text("classify", text, NOON), a_plan(), NOON)


def test_a_request_shows_nothing_of_the_document():
    assert "owner" not in repr(request_for(a_run(), a_plan(), NOON))


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        ({}, Place("clr_1")),
        ({FIRST_RUN: "clr_0"}, Place("clr_1")),
        ({RESUBMIT_OF: "clr_a", FIRST_RUN: "clr_0", ATTEMPT: 3}, Place("clr_0", 3, "clr_a")),
        ({RESUBMIT_OF: "clr_a", ATTEMPT: 1}, Place("clr_a", 1, "clr_a")),
        ({ATTEMPT: 1}, Place("clr_1", 1)),
        ({RESUBMIT_OF: "clr_a"}, None),
        ({RESUBMIT_OF: "clr_a", ATTEMPT: "1"}, None),
        ({RESUBMIT_OF: "clr_a", ATTEMPT: True}, None),
        ({RESUBMIT_OF: "clr_a", ATTEMPT: -1}, None),
        ({RESUBMIT_OF: "clr_a", ATTEMPT: 10**9}, None),
        ({RESUBMIT_OF: ["clr_a"], FIRST_RUN: 7, ATTEMPT: 1}, Place("clr_1", 1)),
    ],
)
def test_a_run_says_where_it_stands_or_nothing(metadata, place):
    assert place_of("clr_1", metadata) == place


@given(st.dictionaries(st.sampled_from([RESUBMIT_OF, FIRST_RUN, ATTEMPT]), JSON))
def test_no_metadata_makes_an_endless_chain(metadata):
    place = place_of("clr_1", metadata)
    plan = plan_for(place, "clr_1", limit=2, why_not=None)
    assert plan.attempt == (place.attempt + 1 if place else 1)
    assert plan.gives_up == (place is not None and place.attempt >= 2)
    assert (plan.why_not == NO_NUMBER) == (place is None)


@pytest.mark.parametrize(
    ("attempt", "limit", "gives_up"), [(0, 1, False), (1, 1, True), (5, 2, True), (5, None, False)]
)
def test_the_last_attempt_is_given_up(attempt, limit, gives_up):
    assert a_plan(attempt, limit=limit).gives_up is gives_up


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (ExtendNotSentError("x"), Sent.NOT_SENT),
        (ExtendRateLimitError("x", status=429), Sent.NOT_SENT),
        (SharedLimitError("x"), Sent.NOT_SENT),
        (ExtendRefusedError("x", status=400), Sent.REFUSED),
        (ExtendNotFoundError("x", status=404), Sent.REFUSED),
        (ExtendAuthError("x", status=401), Sent.REFUSED),
        (ExtendTransportError("x"), Sent.LOST),
        (ExtendServerError("x", status=503), Sent.LOST),
        (ExtendUnexpectedResponseError("x", status=200), Sent.LOST),
        (ExtendUnexpectedResponseError("x", status=302), Sent.LOST),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_what_was_not_carried_out_may_be_sent_again(error, sent):
    assert what_was_sent(error) is sent


@pytest.mark.parametrize(
    ("outcome", "changed_after", "ours"),
    [
        (Outcome.UNCONFIRMED, 0, True),
        (Outcome.REFUSED, 0, False),
        (Outcome.ERROR, 0, False),
        (None, 60, True),
        (None, -3600, False),
        (None, 3600, False),
    ],
)
def test_an_interrupted_sweep_can_have_cancelled_what_ended_then(outcome, changed_after, ours):
    planned_at = NOON - timedelta(hours=2)
    plan = a_plan().model_copy(update={"planned_at": planned_at, "updated_at": NOON - timedelta(hours=9)})
    changed = (planned_at + timedelta(seconds=changed_after)).isoformat()
    before = PendingCancel(run_id="clr_1", since=planned_at, outcome=outcome)
    assert can_be_ours(a_run(updatedAt=changed), plan, before, NOON) is ours
    # Where a cancel does not move the last change, it says nothing.
    unmoved = plan.model_copy(update={"updated_at": datetime.fromisoformat(changed)})
    assert can_be_ours(a_run(updatedAt=changed), unmoved, before, NOON) is (ours or outcome is None)


def test_clocks_that_differ_move_the_times_of_a_plan():
    ours = NOON + timedelta(hours=3)
    plan = a_plan().model_copy(update={"planned_at": ours - timedelta(minutes=5)})
    before = PendingCancel(run_id="clr_1", since=ours)
    assert can_be_ours(a_run(updatedAt=(NOON - timedelta(minutes=4)).isoformat()), plan, before, ours)
    assert not can_be_ours(a_run(updatedAt=(NOON - timedelta(minutes=30)).isoformat()), plan, before, ours)


def test_configurations_are_compared_without_order_and_nulls():
    same = [{"config": {"a": 1, "b": [1]}}, {"config": {"b": [1], "a": 1, "c": None}}]
    assert len({config_digest(raw) for raw in same}) == 1
    assert config_digest({"config": {"a": 2}}) != config_digest(same[0])
    assert config_digest({"config": None}) is None


@pytest.mark.parametrize("kind", [kind for kind in RunKind if kind not in RESUBMITTABLE])
def test_other_kinds_are_refused_in_one_clear_sentence(kind):
    sentence = rf"^a {kind} run cannot be submitted again, because .+: resubmit is for classify, extract, split runs$"
    with pytest.raises(ExtendInputError, match=sentence):
        StaleRuns(kind, 60, StalePolicy(resubmit=1)).validate()
    with pytest.raises(ExtendInputError, match=sentence):
        NamedRuns(kind, [f"{kind.id_prefix}1"], resubmit=True).validate()


def an_intent(number, runs=(), **plans):
    scope = Scope(kind=RunKind.CLASSIFY, api_url="https://api.extend.ai")
    return CancelIntent(
        id=f"00000000-0000-0000-0000-00000000000{number}",
        scope=scope,
        run_ids=list(runs),
        resubmit={run_id: a_plan().now(state) for run_id, state in plans.items()},
        opened_at=NOON + timedelta(minutes=number),
    )


@pytest.mark.parametrize(
    ("intents", "recorded", "keeps"),
    [
        ([an_intent(1, ["a"], a="planned"), an_intent(2, ["a"], a="planned")], (), 2),
        ([an_intent(1, ["a"], a="planned"), an_intent(2, ["a"])], (), 2),
        ([an_intent(1, ["a"], a="planned"), an_intent(2, ["a"])], ("a",), 1),
        ([an_intent(1, [], a="planned"), an_intent(2, ["a"], a="planned")], (), 1),
        ([an_intent(1, [], a="sending"), an_intent(2, [], a="planned")], (), 1),
        ([an_intent(1, [], a="planned"), an_intent(2, [], a="sending")], (), 2),
        ([an_intent(1, [], a="unknown"), an_intent(2, [], a="sending")], (), 1),
        ([an_intent(1, [], a="sending"), an_intent(2, ["a"])], (), 1),
    ],
)
def test_one_intent_keeps_the_plan_that_is_furthest(intents, recorded, keeps):
    kept = plans_to_keep(intents, recorded)
    assert [number for number, intent in enumerate(intents, start=1) if kept[intent.id]] == ([keeps] if keeps else [])


def test_intents_of_older_versions_have_no_plans():
    older = an_intent(1, ["a"]).model_dump(mode="json", exclude={"resubmit", "resubmitted"})
    intent = CancelIntent.model_validate(older)
    assert (intent.resubmit, intent.resubmitted, intent.is_open) == ({}, {}, True)
