"""A run is what the API sent, to the letter, whatever it sent."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendUnexpectedResponseError
from prefect_extend_ai.runs import PROCESSING, Run, RunKind, parse_timestamp

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
READ_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_run(kind="classify", **fields):
    return Run.from_text(kind, json.dumps({"id": "clr_1", "status": PROCESSING} | fields), READ_AT)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from(RunKind))
def test_nothing_that_the_api_sent_is_lost(fields, kind):
    sent = json.dumps(fields | {"id": "clr_1"})
    run = Run.from_text(kind, sent, READ_AT)
    assert run.text == sent
    assert run.raw == json.loads(sent)


def test_the_text_is_kept_to_the_letter():
    sent = '{"id": "clr_1",\n  "credits": 1.50, "usage": null, "big": 12345678901234567890, "id2": "\\u00e9"}'
    assert Run.from_text("classify", sent).text == sent


def test_a_byte_order_mark_is_not_part_of_the_object():
    assert Run.from_text("classify", '\ufeff{"id": "clr_1"}').text == '{"id": "clr_1"}'


@pytest.mark.parametrize("pack", [pickle, cloudpickle])
@pytest.mark.parametrize("kind", RunKind)
def test_a_run_survives_pickling(pack, kind):
    run = a_run(kind, output={"confidence": 0.5}, metadata={"a": [1]})
    again = pack.loads(pack.dumps(run))
    assert again == run
    assert (again.kind, again.text, again.read_at) == (run.kind, run.text, run.read_at)


def test_two_runs_keep_the_unknown_statuses_that_each_came_with():
    queued, leaving = a_run(status="QUEUED"), a_run(status="CANCELLING", failureReason="SOLAR_FLARE")
    assert (queued.status, leaving.status) == ("QUEUED", "CANCELLING")
    assert (queued.failure_reason, leaving.failure_reason) == (None, "SOLAR_FLARE")
    assert not queued.is_terminal
    assert not leaving.is_terminal


@given(st.text(min_size=1))
def test_an_unknown_status_is_not_terminal(status):
    ends = {"PROCESSED", "FAILED", "CANCELLED"}
    assert a_run(status=status).is_terminal == (status in ends)


def test_nothing_of_the_document_is_in_the_repr():
    run = a_run(file={"name": "payslip of Ada.pdf"}, metadata={"iban": "DE89"}, output={"type": "secret"})
    assert repr(run) == "Run(classify 'clr_1' 'PROCESSING')"
    assert repr(run) == str(run)


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "[]", "null", "3", '"clr_1"', "{}", '{"id": 7}', '{"id": ""}', '{"id": null}', "[" * 200_000],
)
def test_anything_but_a_run_object_is_an_unexpected_response(text):
    with pytest.raises(ExtendUnexpectedResponseError):
        Run.from_text("classify", text)


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize("other", RunKind)
def test_an_object_of_another_known_kind_is_not_believed(kind, other):
    sent = {"object": other.object_name, "id": "clr_1", "status": "PROCESSED"}
    if kind is other:
        assert Run.from_item(kind, sent).is_terminal
        return
    for read in (lambda: Run.from_item(kind, sent), lambda: Run.from_text(kind, json.dumps(sent))):
        with pytest.raises(ExtendUnexpectedResponseError, match=f"{other.object_name}, not "):
            read()


@pytest.mark.parametrize("name", ["classification_run", "list", "", None, 5, ["extract_run"], {}])
def test_an_unknown_or_missing_object_name_is_tolerated(name):
    assert a_run(object=name).id == "clr_1"
    assert Run.from_item("classify", {"id": "clr_1"}).id == "clr_1"


@pytest.mark.parametrize("item", [None, 3, "clr_1", [], {}, {"id": ["clr_1"]}])
def test_a_listed_item_that_is_not_a_run_is_unexpected(item):
    with pytest.raises(ExtendUnexpectedResponseError):
        Run.from_item("classify", item)


def test_a_listed_item_keeps_every_field():
    item = {"id": "clr_1", "status": "NEW", "surprise": {"deep": [1, None]}}
    run = Run.from_item(RunKind.CLASSIFY, item, READ_AT)
    assert (dict(run.raw), json.loads(run.text), run.read_at) == (item, item, READ_AT)


@given(JSON)
def test_a_field_of_an_undocumented_shape_reads_as_missing(odd):
    run = a_run(
        status=odd, createdAt=odd, updatedAt=odd, classifier=odd, metadata=odd, file=odd, files=odd, dashboardUrl=odd
    )
    texts = [run.status, run.failure_reason, run.dashboard_url, run.processor_id]
    assert all(value is None or isinstance(value, str) for value in texts)
    assert run.metadata == (odd if isinstance(odd, dict) else {})
    assert all(isinstance(name, str) for name in run.file_names)


def test_a_workflow_names_all_files_other_kinds_their_one():
    several = a_run("workflow", files=[{"id": "file_1", "name": "a"}, None, {"id": "file_2"}, {"name": "b"}])
    assert several.file_names == ["a", "b"]
    assert a_run(file={"id": "file_1", "name": "a"}).file_names == ["a"]
    assert a_run(file=None).file_names == []


@pytest.mark.parametrize(
    ("kind", "field"), [("classify", "classifier"), ("extract", "extractor"), ("split", "splitter"), ("workflow",) * 2]
)
def test_the_processor_is_found_under_its_kinds_own_name(kind, field):
    assert a_run(kind, **{field: {"id": "x_1"}}).processor_id == "x_1"
    assert a_run(kind, **{field: None}).processor_id is None
    assert a_run(kind, other={"id": "x_1"}).processor_id is None


@pytest.mark.parametrize("kind", ["parse", "verify"])
def test_kinds_without_a_processor_have_none(kind):
    assert a_run(kind, classifier={"id": "cl_1"}, None_={"id": "x"}).processor_id is None


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("2024-03-21T16:45:00Z", datetime(2024, 3, 21, 16, 45, tzinfo=UTC)),
        ("2025-04-28T17:01:39.285Z", datetime(2025, 4, 28, 17, 1, 39, 285000, tzinfo=UTC)),
        ("2025-04-28T19:01:39+02:00", datetime(2025, 4, 28, 17, 1, 39, tzinfo=UTC)),
    ],
)
def test_timestamps_are_read_in_each_form_that_the_api_writes(sent, moment):
    assert parse_timestamp(sent) == moment


@pytest.mark.parametrize(
    "sent",
    [
        *(None, 3, 1.5, True, [], {}, "", "yesterday", "2024-13-01T00:00:00Z", "1711039500"),
        *("2024-03-21T16:45:00", "2024-03-21"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_an_ambiguous_time_is_no_timestamp(sent):
    assert parse_timestamp(sent) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_a_timestamp_is_the_same_instant_whatever_its_offset(local, minutes):
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    read = parse_timestamp(moment.isoformat())
    assert read == moment
    assert read.utcoffset() == timedelta(0)


def test_each_kind_has_the_paths_and_facts_of_the_vendors_sdk():
    facts = {
        kind.value: (kind.path, kind.object_name, kind.id_prefix, kind.processor, kind.sortable, kind.dated)
        for kind in RunKind
    }
    assert facts == {
        "classify": ("/classify_runs", "classify_run", "clr_", "classifier", True, True),
        "extract": ("/extract_runs", "extract_run", "exr_", "extractor", True, True),
        "split": ("/split_runs", "split_run", "splr_", "splitter", True, True),
        "parse": ("/parse_runs", "parse_run", "pr_", None, False, False),
        "verify": ("/verify_runs", "verify_run", "vr_", None, True, True),
        "workflow": ("/workflow_runs", "workflow_run", "workflow_run_", "workflow", True, False),
    }


def test_only_workflows_are_cancellable_while_pending():
    assert {kind for kind in RunKind if "PENDING" in kind.cancellable} == {RunKind.WORKFLOW}
    assert {kind for kind in RunKind if "REJECTED" in kind.terminal} == {RunKind.WORKFLOW}
    assert all(PROCESSING in kind.cancellable and not kind.cancellable & kind.terminal for kind in RunKind)
    assert not any({"NEEDS_REVIEW", "CANCELLING", "PENDING"} & kind.terminal for kind in RunKind)
    assert RunKind.WORKFLOW.filters == {"batch_id", "file_name_contains"}
    assert RunKind.VERIFY.filters == {"source", "file_name_contains"}
