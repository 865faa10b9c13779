"""Which runs are stale: held against an oracle written without looking, and at every edge."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.rules.holds import is_held, looks_held
from prefect_extend_ai.sweep.rules.staleness import (
    AGE_BANDS,
    Exempt,
    StalePolicy,
    age_band,
    assess,
    check_filters,
    shortest_limit,
    skip_reason,
    skip_reason_when_named,
)
from prefect_extend_ai.sweep.scan import Target

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STALE = "2026-03-01T10:00:00Z"
SECOND = timedelta(seconds=1)


def a_run(kind="classify", read_at=NOW, **fields):
    facts = {"id": "clr_1", "status": "PROCESSING", "createdAt": STALE, "updatedAt": STALE} | fields
    return Run.from_text(kind, json.dumps(facts), read_at)


def verdict(run, policy=None, limit=60, **listed):
    return assess(run, now=NOW, max_processing_minutes=limit, policy=policy or StalePolicy(), **listed)


def ago(**span):
    return (NOW - timedelta(**span)).isoformat()


@st.composite
def policies(draw):
    ids = st.sampled_from(["cl_a", "cl_b", "cl_c"])
    minutes = st.integers(1, 200)
    return StalePolicy(
        max_total_minutes=draw(st.none() | minutes),
        minutes_by_processor=draw(st.dictionaries(ids, minutes, max_size=2)),
        only_processors=draw(st.lists(ids, max_size=2)),
        except_processors=draw(st.lists(ids, max_size=2)),
        except_runs=draw(st.sampled_from([[], [], [], ["clr_1"], ["clr_2"]])),
        file_name_contains=draw(st.sampled_from([None, "INV", "pay"])),
        hold_key=draw(st.sampled_from(["prefect_hold", "keep"])),
    )


@st.composite
def runs(draw):
    minutes = st.integers(-5, 400) | st.sampled_from([0, 59, 60, 61])
    seconds = st.integers(-3, 3)

    def moment():
        kind = draw(st.sampled_from(["sound", "sound", "sound", "sound", "none", "naive", "odd"]))
        when = NOW - timedelta(minutes=draw(minutes), seconds=draw(seconds))
        return {"sound": when.isoformat(), "none": None, "naive": when.replace(tzinfo=None).isoformat(), "odd": "soon"}[
            kind
        ]

    processor = draw(st.sampled_from([None, "cl_a", "cl_b", "cl_c"]))
    return a_run(
        status=draw(
            st.sampled_from(
                ["PROCESSING", "PROCESSING", "PROCESSING", "PENDING", "processing", "PROCESSED", "NEW", None]
            )
        ),
        updatedAt=moment(),
        createdAt=moment(),
        classifier={"id": processor} if processor else None,
        metadata=draw(
            st.sampled_from([None, {}, {"prefect_hold": True}, {"prefect_hold": 0}, {"keep": "false"}, {"keep": ""}])
        ),
        file={"id": "file_1", "name": draw(st.sampled_from(["invoice.pdf", "PAYSLIP.pdf", "x"]))},
    )


def sound_time(raw):
    """The oracle's own reading of a time, in seconds before now; None for what cannot be placed."""
    try:
        return (NOW - datetime.fromisoformat(raw)).total_seconds()
    except (TypeError, ValueError):  # None, "soon", and a naive time that cannot be subtracted
        return None


def must_be_left_alone(raw, policy, limit):
    """The design's rules, said again from the raw JSON: every reason there is, at once."""
    reasons = set()
    updated, created = sound_time(raw["updatedAt"]), sound_time(raw["createdAt"])
    processor = raw["classifier"]["id"] if raw["classifier"] else None
    if raw["status"] != "PROCESSING":
        reasons.add(Exempt.OTHER_STATUS)
    if updated is None:
        reasons.add(Exempt.NO_TIMESTAMP)
    else:
        own_limit = policy.minutes_by_processor.get(processor, limit) * 60
        over_total = (
            policy.max_total_minutes is not None and created is not None and created > policy.max_total_minutes * 60
        )
        if not (updated > own_limit or over_total):
            reasons.add(Exempt.TOO_YOUNG)
    if any(age is not None and age < -2 for age in (updated, created)):
        reasons.add(Exempt.FUTURE_TIMESTAMP)
    if updated is not None and created is not None and updated - created > 2:
        reasons.add(Exempt.UNREADABLE)
    return reasons | left_out_by(raw, policy, processor)


def left_out_by(raw, policy, processor):
    """The policy's own reasons among them."""
    wanted = policy.file_name_contains
    rules = {
        Exempt.EXCEPT_RUN: raw["id"] in policy.except_runs,
        Exempt.EXCEPT_PROCESSOR: processor in policy.except_processors,
        Exempt.OTHER_PROCESSOR: bool(policy.only_processors) and processor not in policy.only_processors,
        Exempt.OTHER_FILE: bool(wanted) and wanted.lower() not in raw["file"]["name"].lower(),
        Exempt.HELD: bool((raw["metadata"] or {}).get(policy.hold_key)),
    }
    return {reason for reason, applies in rules.items() if applies}


@given(runs(), policies(), st.integers(1, 200))
def test_a_run_is_stale_exactly_when_no_rule_leaves_it_alone(run, policy, limit):
    reasons = must_be_left_alone(run.raw, policy, limit)
    said = verdict(run, policy, limit)
    assert said in reasons if reasons else said is None


@given(runs(), policies(), st.integers(1, 200))
def test_the_recheck_agrees_with_the_scan(run, policy, limit):
    stale = verdict(run, policy, limit) is None
    reason = skip_reason(run, Target("clr_1"), limit, policy)
    assert (reason is None) == stale
    assert reason is None or reason.strip()


@pytest.mark.parametrize(
    ("fields", "policy", "why"),
    [
        ({}, {}, None),
        ({"status": "PENDING"}, {}, Exempt.OTHER_STATUS),
        ({"status": "processing"}, {}, Exempt.OTHER_STATUS),
        ({"status": None}, {}, Exempt.OTHER_STATUS),
        ({"updatedAt": None}, {}, Exempt.NO_TIMESTAMP),
        ({"updatedAt": "2026-03-01T10:00:00"}, {}, Exempt.NO_TIMESTAMP),
        ({"createdAt": None}, {}, None),
        ({"createdAt": "2026-03-01T10:00:00"}, {"max_total_minutes": 1}, None),
        ({"updatedAt": ago(seconds=-3)}, {}, Exempt.FUTURE_TIMESTAMP),
        ({"createdAt": ago(seconds=-3)}, {}, Exempt.FUTURE_TIMESTAMP),
        ({"createdAt": ago(minutes=1), "updatedAt": ago(minutes=100)}, {}, Exempt.UNREADABLE),
        ({"createdAt": ago(minutes=1), "updatedAt": "0001-01-01T00:00:00Z"}, {}, Exempt.UNREADABLE),
        ({"createdAt": ago(minutes=100), "updatedAt": ago(minutes=100, seconds=2)}, {}, None),
        ({"updatedAt": ago(seconds=-2)}, {}, Exempt.TOO_YOUNG),
        ({"updatedAt": ago(minutes=60)}, {}, Exempt.TOO_YOUNG),
        ({"updatedAt": ago(minutes=60, milliseconds=1)}, {}, None),
        ({"updatedAt": ago(minutes=1)}, {"max_total_minutes": 119}, None),
        ({"updatedAt": ago(minutes=1)}, {"max_total_minutes": 120}, Exempt.TOO_YOUNG),
        ({"classifier": {"id": "cl_a"}}, {"minutes_by_processor": {"cl_a": 120}}, Exempt.TOO_YOUNG),
        ({"classifier": {"id": "cl_a"}}, {"minutes_by_processor": {"cl_b": 120}}, None),
        ({"classifier": {"id": "cl_a"}}, {"except_processors": ["cl_a"]}, Exempt.EXCEPT_PROCESSOR),
        (
            {"classifier": {"id": "cl_a"}},
            {"except_processors": ["cl_a"], "only_processors": ["cl_a"]},
            Exempt.EXCEPT_PROCESSOR,
        ),
        ({"classifier": {"id": "cl_a"}}, {"only_processors": ["cl_b"]}, Exempt.OTHER_PROCESSOR),
        ({"classifier": None}, {"only_processors": ["cl_b"]}, Exempt.OTHER_PROCESSOR),
        ({"file": {"name": "a.pdf"}}, {"file_name_contains": "b"}, Exempt.OTHER_FILE),
        ({"file": None}, {"file_name_contains": "b"}, Exempt.OTHER_FILE),
        ({"file": {"id": "file_b", "name": "a.pdf"}}, {"file_name_contains": "b"}, Exempt.OTHER_FILE),
        ({"file": {"id": "file_b", "name": None}}, {"file_name_contains": "b"}, Exempt.OTHER_FILE),
        ({"file": {"name": "a.pdf"}}, {"file_name_contains": "clr_1"}, Exempt.OTHER_FILE),
        ({}, {"except_runs": ["clr_1"]}, Exempt.EXCEPT_RUN),
        ({"classifier": {"id": "cl_a"}}, {"except_runs": ["clr_1"], "only_processors": ["cl_b"]}, Exempt.EXCEPT_RUN),
        ({"updatedAt": ago(minutes=1)}, {"except_runs": ["clr_1"]}, Exempt.TOO_YOUNG),
        ({}, {"except_runs": ["clr_2", "CLR_1"]}, None),
        ({"file": {"name": "A.pdf"}}, {"file_name_contains": "a.P"}, None),
        ({"metadata": {"prefect_hold": True}}, {}, Exempt.HELD),
        ({"metadata": {"prefect_hold": True}}, {"hold_key": "keep"}, None),
    ],
)
def test_each_reason_and_each_edge(fields, policy, why):
    assert verdict(a_run(**fields), StalePolicy(**policy)) is why


def test_every_skip_reason_is_reached_by_a_rule_or_the_listing():
    shown = {
        *(Exempt.OTHER_STATUS, Exempt.NO_TIMESTAMP, Exempt.FUTURE_TIMESTAMP, Exempt.TOO_YOUNG, Exempt.HELD),
        *(Exempt.EXCEPT_RUN, Exempt.EXCEPT_PROCESSOR, Exempt.OTHER_PROCESSOR, Exempt.OTHER_FILE),
    }
    # What is usual for a processor is covered where limits are learned.
    assert set(Exempt) - shown == {Exempt.UNREADABLE, Exempt.USUAL_FOR_PROCESSOR}


@pytest.mark.parametrize("value", [True, 1, "yes", "false", "0", [0], {"until": None}, 0.1])
def test_a_run_is_held_by_anything_true_and_in_doubt(value):
    assert is_held(a_run(metadata={"prefect_hold": value}), StalePolicy())


@pytest.mark.parametrize(
    "metadata", [None, [], "prefect_hold", {}, *({"prefect_hold": no} for no in (None, False, 0, "", [], {}))]
)
def test_a_run_is_not_held_by_anything_false(metadata):
    assert not is_held(a_run(metadata=metadata), StalePolicy())


def test_an_excepted_run_is_spared_at_the_recheck_and_by_its_id():
    policy = StalePolicy(except_runs=["clr_1"])
    assert "except_runs" in skip_reason(a_run(), Target("clr_1"), 60, policy)
    assert "except_runs" in skip_reason_when_named(a_run(), policy)


HOLDS = [
    ("prefect_hold", {"Prefect_Hold": True}),
    ("prefect_hold", {"PREFECT-HOLD": 1}),
    ("prefect_hold", {"prefectHold": "yes"}),
    ("prefect_hold", {"prefect hold": True}),
    ("prefect_hold", {"prefect_hold": False, "Prefect_Hold": True}),
    ("ops.hold", {"ops": {"hold": True}}),
    ("ops.hold", {"Ops": {"HOLD": "until friday"}}),
    ("ops.hold", {"ops.hold": True}),
    ("ops.hold", {"ops.hold": False, "ops": {"hold": True}}),
    ("a.b.c", {"a.b": {"c": 1}}),
    ("a.b.c", {"a": {"b.c": 1}}),
    ("a.b.c", {"a": {"b": {"c": {"until": None}}}}),
]


@pytest.mark.parametrize(("key", "metadata"), HOLDS)
def test_a_hold_may_be_written_another_way(key, metadata):
    run, policy = a_run(metadata=metadata), StalePolicy(hold_key=key)
    assert is_held(run, policy)
    assert not looks_held(run, policy)
    assert verdict(run, policy) is Exempt.HELD
    assert "held" in skip_reason(run, Target("clr_1"), 60, policy)
    assert "held" in skip_reason_when_named(run, policy)


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        ("ops.hold", {"ops": {"hold": False}}),
        ("ops.hold", {"ops": {}}),
        ("ops.hold", {"ops": ["hold"]}),
        ("ops.hold", {"ops": "hold"}),
        ("ops.hold", {"ops": None, "x": {"ops": {"hold": True}}}),
        ("ops.", {"ops": {"": False}}),
        ("prefect_hold", {"prefect_holder": True}),
        ("...", {"a": 1}),
        ("___", {"a": 1}),
        ("prefect_hold", {"___": 1}),
    ],
)
def test_a_run_is_not_held_by_something_else(key, metadata):
    assert not is_held(a_run(metadata=metadata), StalePolicy(hold_key=key))


@pytest.mark.parametrize(
    ("metadata", "looks"),
    [
        ({"hold": True}, True),
        ({"ops_hold": 1}, True),
        ({"opsHold": "yes"}, True),
        ({"On-Hold": "until friday"}, True),
        ({"ONHOLD": True}, True),
        ({"ops": {"hold": True}}, True),
        ({"ops": [{"hold": True}]}, True),
        ({"hold_until": "2026-04-01"}, True),
        ({"hold": False}, False),
        ({"ops": {"hold": ""}}, False),
        ({"threshold": 0.8, "account_holder": "Ada", "household": 3, "holding": "GmbH"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_metadata_that_only_looks_like_a_hold_is_noticed(metadata, looks):
    run = a_run(metadata=metadata)
    assert looks_held(run, StalePolicy()) is looks
    assert not is_held(run, StalePolicy())


def test_metadata_of_any_depth_is_searched_without_an_end():
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    run = Run("classify", {"id": "clr_1", "metadata": deep}, "{}")
    assert not looks_held(run, StalePolicy())
    assert not is_held(run, StalePolicy(hold_key="a." * 5000 + "hold"))


@pytest.mark.parametrize("kind", ["parse", "workflow"])
def test_a_kind_whose_read_has_no_times_is_judged_by_listings(kind):
    run = a_run(kind, updatedAt=None, createdAt=None)
    old, young = NOW - timedelta(hours=2), NOW - timedelta(minutes=5)
    assert skip_reason(run, Target("clr_1", old, old), 60, StalePolicy()) is None
    assert skip_reason(run, Target("clr_1", young, young), 60, StalePolicy())
    assert skip_reason(run, Target("clr_1", young, old), 60, StalePolicy(max_total_minutes=90)) is None
    assert skip_reason(run, Target("clr_1"), 60, StalePolicy())


def test_a_kind_whose_read_has_times_ignores_the_listing():
    run = a_run(updatedAt=None)
    old = NOW - timedelta(hours=2)
    assert skip_reason(run, Target("clr_1", old, old), 60, StalePolicy()) == "it no longer says when it last changed"


def test_without_the_apis_clock_no_run_is_stale():
    assert "no Date header" in skip_reason(a_run(read_at=None), Target("clr_1"), 60, StalePolicy())


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize(
    "status", ["PENDING", "PROCESSING", "PROCESSED", "FAILED", "CANCELLED", "CANCELLING", "NEW", None]
)
def test_a_named_run_is_cancelled_in_its_kinds_statuses(kind, status):
    named = a_run(kind, status=status, updatedAt=NOW.isoformat())
    may = status == "PROCESSING" or (kind is RunKind.WORKFLOW and status == "PENDING")
    assert (skip_reason_when_named(named, StalePolicy()) is None) == may
    held = a_run(kind, status=status, metadata={"prefect_hold": True})
    assert skip_reason_when_named(held, StalePolicy())


@pytest.mark.parametrize("field", ["source", "batch_id", "file_name_contains", "hold_key"])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_filter_is_refused_and_never_means_all(field, blank):
    with pytest.raises(ValidationError):
        StalePolicy(**{field: blank})


@pytest.mark.parametrize(
    "policy",
    [
        {"only_processors": [""]},
        {"except_processors": [" "]},
        {"except_runs": [""]},
        {"except_runs": ["clr_1", " "]},
        {"except_runs": ["clr/../1"]},
        {"except_runs": ["clr_1 clr_2"]},
        {"except_runs": ["clr_" + "1" * 255]},
        {"minutes_by_processor": {" ": 5}},
        {"minutes_by_processor": {"cl_a": 0}},
        {"max_total_minutes": 0},
        {"max_cancellations": 0},
        {"refuse_above": -1},
        {"confirm_seconds": 0},
        {"max_sweep_minutes": 0},
        {"only_procesors": ["cl_a"]},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(policy):
    with pytest.raises(ValidationError):
        StalePolicy(**policy)


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize("name", ["source", "batch_id", "file_name_contains"])
def test_a_filter_that_a_listing_does_not_know_is_refused(kind, name):
    policy = StalePolicy(**{name: "x"})
    if name in kind.filters:
        check_filters(kind, policy)
    else:
        with pytest.raises(ExtendInputError, match=name):
            check_filters(kind, policy)


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize(
    "policy", [{"only_processors": ["x"]}, {"except_processors": ["x"]}, {"minutes_by_processor": {"x": 5}}]
)
def test_rules_by_processor_are_refused_for_kinds_without_one(kind, policy):
    if kind.processor:
        check_filters(kind, StalePolicy(**policy))
    else:
        with pytest.raises(ExtendInputError, match="no processor"):
            check_filters(kind, StalePolicy(**policy))


@given(policies(), st.integers(1, 200))
def test_a_listing_ends_early_only_at_the_shortest_limit(policy, limit):
    shortest = shortest_limit(limit, policy)
    assert shortest == timedelta(minutes=min([limit, *policy.minutes_by_processor.values()]))


@given(st.integers(-100, 10**7), st.integers(1, 10**4))
def test_every_age_lies_in_a_band_in_the_order_of_ages(minutes, limit):
    span = timedelta(minutes=limit)
    band = AGE_BANDS.index(age_band(timedelta(minutes=minutes), span))
    assert band <= AGE_BANDS.index(age_band(timedelta(minutes=minutes + 1), span))
    assert (band <= 1) == (minutes <= limit)


@pytest.mark.parametrize(
    "fields",
    [{"metadata": '{"prefect_hold": true}'}, {"metadata": ["prefect_hold"]}, {"metadata": 0}, {"classifier": ["cl_1"]}],
)
def test_a_run_is_left_alone_where_a_hold_cannot_be_read(fields):
    run = a_run(**fields)
    assert verdict(run) is Exempt.UNREADABLE
    assert "cannot be read" in skip_reason_when_named(run, StalePolicy())
    assert "cannot be read" in skip_reason(run, Target("clr_1"), 60, StalePolicy())


def test_a_processor_named_by_its_id_alone_is_excepted_by_it():
    assert verdict(a_run(classifier="cl_1"), StalePolicy(except_processors=["cl_1"])) is Exempt.EXCEPT_PROCESSOR


@pytest.mark.parametrize("now", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_a_clock_at_the_end_of_time_is_a_clock_all_the_same(now):
    found = assess(a_run(), now=now, max_processing_minutes=60, policy=StalePolicy())
    assert found is (None if now > NOW else Exempt.FUTURE_TIMESTAMP)


@pytest.mark.parametrize("name", ["max_total_minutes", "max_sweep_minutes", "confirm_seconds"])
@pytest.mark.parametrize("value", [10**15, 10**400])
def test_a_limit_that_no_clock_can_express_is_refused(name, value):
    with pytest.raises(ValidationError):
        StalePolicy(**{name: value})
