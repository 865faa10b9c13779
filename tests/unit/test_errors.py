"""Errors say what happened, survive pickling, and are found under one root."""

from __future__ import annotations

import inspect
import pickle

import cloudpickle
import pytest

from prefect_extend_ai import errors
from prefect_extend_ai.errors import (
    BODY_SHOWN,
    ExtendAPIError,
    ExtendError,
    ExtendInputError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
    RecordError,
)
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepFailed, SweepRefused, SweepReport

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ExtendError)]
OF_RESPONSES = [kind for kind in ALL if issubclass(kind, ExtendAPIError)]
PACKS = pytest.mark.parametrize("pack", [pickle, cloudpickle])


def test_everything_raised_is_under_one_root_and_public():
    assert {kind.__name__ for kind in ALL} == set(errors.__all__)


def test_the_tree_drawn_on_top_is_the_tree():
    drawn = [
        line for line in (errors.__doc__ or "").splitlines() if "Extend" in line or "Error" in line or "Sweep" in line
    ]
    parents, found = {}, {}
    for line in drawn:
        name = next((word for word in line.split() if word in errors.__all__), None)
        if name is None:
            continue
        depth = line.index(name) // 4
        parents[depth] = name
        found[name] = parents.get(depth - 1)
    assert found.pop("ExtendError") is None
    assert found == {kind.__name__: kind.__mro__[1].__name__ for kind in ALL if kind is not ExtendError}


@PACKS
@pytest.mark.parametrize("kind", OF_RESPONSES)
def test_a_responses_error_survives_pickling_with_all_it_knows(pack, kind):
    error = kind("no such run", status=404, code="NOT_FOUND", request_id="req_1", retryable=False)
    again = pack.loads(pack.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.message, again.status, again.code, again.request_id, again.retryable) == (
        "no such run",
        404,
        "NOT_FOUND",
        "req_1",
        False,
    )


@PACKS
def test_an_unexpected_response_keeps_the_beginning_of_its_body(pack):
    error = ExtendUnexpectedResponseError("not JSON", status=200, body="<html>" + "x" * 1000)
    again = pack.loads(pack.dumps(error))
    assert again.body == error.body == "<html>" + "x" * (BODY_SHOWN - 6)
    assert "'<html>xxx" in str(again)
    assert len(str(again)) < BODY_SHOWN + 100


@PACKS
@pytest.mark.parametrize("kind", [ExtendInputError, ExtendTransportError, RecordError, ExtendError])
def test_a_plain_error_survives_pickling(pack, kind):
    again = pack.loads(pack.dumps(kind("a sentence")))
    assert (type(again), str(again)) == (kind, "a sentence")


@PACKS
@pytest.mark.parametrize("kind", [SweepFailed, SweepRefused])
def test_a_failed_sweep_carries_its_report_through_pickling(pack, kind):
    report = SweepReport().with_cancellations([Cancellation(run_id="clr_1", outcome=Outcome.ERROR, reason="why")])
    again = pack.loads(pack.dumps(kind("it failed", report)))
    assert (type(again), str(again), again.report) == (kind, "it failed", report)


def test_bad_input_is_a_value_error_refused_a_failed_sweep():
    assert issubclass(ExtendInputError, ValueError)
    assert issubclass(SweepRefused, SweepFailed)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "gone"),
        ({"status": 404}, "HTTP 404 gone"),
        ({"status": 404, "code": "NOT_FOUND"}, "HTTP 404 NOT_FOUND gone"),
        ({"request_id": "req_1"}, "gone (request req_1)"),
    ],
)
def test_an_error_reads_as_one_sentence_of_what_is_known(facts, said):
    assert str(ExtendAPIError("gone", **facts)) == said


def test_an_error_without_a_message_still_says_its_status():
    assert str(ExtendAPIError("", status=502)) == "HTTP 502"
