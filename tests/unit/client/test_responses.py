"""Error responses of every shape are read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai import errors
from prefect_extend_ai.client.responses import ApiResponse, error_for, http_date, retry_after

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
error_fields = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("code", "message", "retryable", "requestId", "error", "success"), json_values)
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ExtendRefusedError),
        (401, errors.ExtendAuthError),
        (402, errors.ExtendUsageBlockedError),
        (403, errors.ExtendPermissionError),
        (404, errors.ExtendNotFoundError),
        (408, errors.ExtendServerError),
        (409, errors.ExtendRefusedError),
        (410, errors.ExtendRefusedError),
        (418, errors.ExtendRefusedError),
        (422, errors.ExtendRefusedError),
        (429, errors.ExtendRateLimitError),
        (500, errors.ExtendServerError),
        (502, errors.ExtendServerError),
        (529, errors.ExtendServerError),
        (302, errors.ExtendUnexpectedResponseError),
        (304, errors.ExtendUnexpectedResponseError),
        (100, errors.ExtendUnexpectedResponseError),
    ],
)
def test_each_status_is_an_error_of_its_own(status, kind):
    error = error_for(ApiResponse(status))
    assert type(error) is kind
    assert error.status == status


FACTS = {"code": "INVALID_REQUEST", "message": "cannot cancel", "retryable": False, "requestId": "req_1"}


@pytest.mark.parametrize("body", [FACTS, {"error": FACTS}], ids=["flat", "wrapped"])
def test_the_facts_of_an_error_are_read_flat_and_wrapped(body):
    error = error_for(ApiResponse(400, json.dumps(body), request_id="from the header"))
    facts = (error.code, error.message, error.retryable, error.request_id)
    assert facts == ("INVALID_REQUEST", "cannot cancel", False, "req_1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"success": false, "error": "no such run"}', "no such run"),
        ('{"error": "slow down"}', "slow down"),
        ("upstream connect error\n\tor disconnect", "upstream connect error or disconnect"),
        ("<html><h1>502 Bad Gateway</h1></html>", "<html><h1>502 Bad Gateway</h1></html>"),
        ("", "Bad Gateway"),
        ("   \r\n", "Bad Gateway"),
        ("[1, 2]", "[1, 2]"),
        ('{"detail": "other"}', '{"detail": "other"}'),
        ('{"message": 5, "code": "X"}', '{"message": 5, "code": "X"}'),
        ("[" * 100_000, "[" * 199 + "…"),
    ],
)
def test_whatever_else_an_error_says_is_shown_on_one_line(text, said):
    error = error_for(ApiResponse(502, text, request_id="req_9"))
    assert error.message == said
    assert error.request_id == "req_9"


@given(st.integers(100, 999).filter(lambda status: not 200 <= status < 300), error_fields)
def test_any_json_body_makes_an_error(status, body):
    error = error_for(ApiResponse(status, json.dumps(body)))
    assert error.status == status
    assert str(error).isprintable()
    assert isinstance(error.code, str | None)
    assert isinstance(error.request_id, str | None)
    assert isinstance(error.retryable, bool | None)


@given(st.text())
def test_any_text_makes_an_error(text):
    message = error_for(ApiResponse(500, text)).message
    assert message.isprintable()
    assert 0 < len(message) <= errors.BODY_SHOWN


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "check the API key"), (402, "credits"), (403, "lacks the permission"), (404, "another workspace")],
)
def test_the_message_says_what_to_do(status, advice):
    assert advice in str(error_for(ApiResponse(status)))


@pytest.mark.parametrize(
    "response", [ApiResponse(401), ApiResponse(403), ApiResponse(400, '{"message": "Workspace ID missing"}')]
)
def test_a_workspace_is_suggested_only_where_none_was_named(response):
    assert "needs a workspace id" in str(error_for(response, names_workspace=False))
    assert "needs a workspace id" not in str(error_for(response, names_workspace=True))


def test_what_extend_says_and_what_to_do_read_as_one_line():
    error = error_for(ApiResponse(404, '{"message": "No such run in this workspace."}'), names_workspace=False)
    advice = "it may be in another workspace, environment (test or production) or region"
    assert error.message == f"No such run in this workspace; {advice}"


def test_a_refusal_names_no_workspace_unless_it_is_about_one():
    refused = ApiResponse(400, '{"message": "the run has ended"}')
    assert error_for(refused, names_workspace=False).message == "the run has ended"


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://login.example/sso?next=secret", "login.example"),
        ("/elsewhere", "another path of the same host"),
        ("http://[bad", "an address that cannot be read"),
    ],
)
def test_a_redirect_names_the_host_it_points_at_and_no_more(location, named):
    error = error_for(ApiResponse(302, location=location))
    assert named in str(error)
    assert "was not followed" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("3", 3.0),
        (" 1.5 ", 1.5),
        ("600", 600.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
        ("٣", None),
        ("1, 2", None),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(value, seconds):
    assert retry_after(value, NOON) == seconds


@given(st.integers(0, 10**6))
def test_a_retry_after_date_is_measured_by_the_responses_date(seconds):
    answered_at = NOON - timedelta(days=400)  # this machine's clock is far off
    until = format_datetime(answered_at + timedelta(seconds=seconds), usegmt=True)
    assert retry_after(until, answered_at) == seconds


def test_a_retry_after_date_falls_back_to_the_local_clock():
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < retry_after(until, None) <= 100


@given(st.text(), st.none() | st.just(NOON))
def test_retry_after_is_a_length_of_time_or_nothing(value, answered_at):
    seconds = retry_after(value, answered_at)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("Mon, 23 Nov 2026 12:00:00 GMT", NOON),
        ("Mon, 23 Nov 2026 13:00:00 +0100", NOON),
        ("Mon, 23 Nov 2026 12:00:00 -0000", NOON),
        ("yesterday", None),
        ("Mon, 99 Nov 2026 12:00:00 GMT", None),
        (None, None),
    ],
)
def test_an_http_date_is_aware_utc_or_nothing(value, moment):
    assert http_date(value) == moment
    assert moment is None or http_date(value).tzinfo is UTC


@given(st.text())
def test_any_text_is_read_as_a_date_or_none(value):
    moment = http_date(value)
    assert moment is None or moment.tzinfo is UTC


def test_a_response_shows_nothing_of_what_may_be_peoples_data():
    response = ApiResponse(200, "a passport", request_id="sk_echoed", location="https://h/?sk_echoed")
    assert "passport" not in repr(response)
    assert "sk_echoed" not in repr(response)
