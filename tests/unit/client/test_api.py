"""The client asks for exactly what was meant, and takes nothing for a run that is none."""

from __future__ import annotations

import json
import logging
import string
from datetime import UTC, datetime
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import (
    ExtendCachedResponseError,
    ExtendInputError,
    ExtendNotFoundError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import RunKind, check_run_id
from support.scripted import Scripted

KEY = "sk_do-not-show-4711"
HEADERS = {"date": "Mon, 23 Nov 2026 12:00:00 GMT", "x-extend-request-id": "req_1"}
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Api(Scripted):
    """An Extend that returns each of some bodies once."""

    repeats = False

    def __init__(self, *bodies, status=200):
        texts = (body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies)
        super().__init__(*((status, HEADERS, text) for text in texts))

    def client(self):
        return ExtendClient(self.transport(key=KEY, wall_clock=NOON.timestamp))

    @property
    def queries(self):
        return [dict(request.url.params) for request in self.requests]


def a_page(*items, token=None):
    return {"object": "list", "data": list(items), "nextPageToken": token}


def a_run(number):
    return {"object": "classify_run", "id": f"clr_{number}", "status": "PROCESSING"}


async def test_a_run_is_read_whole_and_to_the_letter():
    text = b'{"id": "clr_1", "status": "NEW_STATUS", "cost": 1.50, "later": null}'
    api = Api(text)
    async with api.client() as client:
        run = await client.get_run("clr_1")
    assert (run.text, run.status, run.read_at, run.kind) == (text.decode(), "NEW_STATUS", NOON, RunKind.CLASSIFY)
    assert api.sent == [("GET", "/classify_runs/clr_1")]


@pytest.mark.parametrize("kind", RunKind)
async def test_each_kind_is_cancelled_at_its_own_path(kind):
    run_id = f"{kind.id_prefix}1"
    api = Api({"id": run_id})
    async with api.client() as client:
        await client.cancel_run(run_id, kind.value)
    assert api.sent == [("POST", f"/{kind}_runs/{run_id}/cancel")]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"<html>proxy</html>", "not JSON"),
        (b"[]", "not a run object"),
        (b"null", "not a run object"),
        (b"{}", "without a run id"),
        (b'{"id": 5}', "without a run id"),
        (b'{"id": "clr_2"}', "another run"),
        (b'{"id": "clr_1", "object": "extract_run"}', "the object is extract_run, not classify_run"),
        (b"[" * 100_000, "not JSON"),
    ],
)
@pytest.mark.parametrize("method", ["get_run", "cancel_run"])
async def test_another_object_than_the_requested_run_is_unexpected(method, body, problem):
    async with Api(body).client() as client:
        with pytest.raises(ExtendUnexpectedResponseError, match=problem) as caught:
            await getattr(client, method)("clr_1")
    assert (caught.value.status, caught.value.request_id) == (200, "req_1")
    assert caught.value.body == body.decode()[:200]


async def test_an_unexpected_response_is_shown_without_the_key():
    for page in (f"<p>you sent {KEY}", f"you sent {KEY}"):
        async with Api(page.encode()).client() as client:
            with pytest.raises(ExtendUnexpectedResponseError) as caught:
                await client.get_run("clr_1")
        assert "you sent [key]" in caught.value.body
        assert KEY not in f"{caught.value!r} {caught.value}"


async def test_no_message_shows_what_may_be_a_document():
    async with Api(b'"patient": "Jane Roe", broken').client() as client:
        with pytest.raises(ExtendUnexpectedResponseError, match="not JSON") as caught:
            await client.get_run("clr_1")
    assert "Jane" not in str(caught.value)
    assert "Jane" in caught.value.body
    async with Api(b"<h1>Please sign in</h1>").client() as client:
        with pytest.raises(ExtendUnexpectedResponseError, match="Please sign in"):
            await client.get_run("clr_1")


async def test_a_run_that_is_not_there_is_not_found():
    async with Api({"code": "NOT_FOUND"}, status=404).client() as client:
        with pytest.raises(ExtendNotFoundError):
            await client.get_run("clr_1")


@given(st.text(min_size=1, max_size=300))
def test_an_id_is_refused_or_stays_one_segment_of_the_path(run_id):
    refusal = refusal_of(run_id)
    if refusal is not None:
        assert refusal.isprintable()
        assert len(refusal) < 200
        return
    request = httpx.Request("GET", httpx.URL("https://h").join(f"/classify_runs/{_quoted(run_id)}/cancel"))
    _, collection, segment, last = request.url.raw_path.decode().split("/")
    assert (collection, unquote(segment), last) == ("classify_runs", run_id, "cancel")


def refusal_of(run_id):
    try:
        check_run_id(run_id)
    except ExtendInputError as error:
        return str(error)
    return None


def _quoted(run_id):
    client = Api().client()
    return client._path(RunKind.CLASSIFY, run_id).rpartition("/")[2]


@given(st.text(string.ascii_letters + string.digits + "_-.:+=@~", min_size=1, max_size=255))
def test_ids_of_any_printable_form_without_separators_are_taken(run_id):
    if run_id != "." and ".." not in run_id:
        check_run_id(run_id)


BAD_IDS = [
    "",
    "a/b",
    "a\\b",
    "a?b",
    "a#b",
    "a%2Fb",
    "a b",
    "a\nb",
    "a\x00b",
    "a\u202eb",
    "..",
    ".",
    "a..b",
    "x" * 256,
    None,
    5,
]


@pytest.mark.parametrize("run_id", BAD_IDS)
@pytest.mark.parametrize("method", ["get_run", "cancel_run"])
async def test_a_bad_id_is_refused_before_any_request(method, run_id):
    api = Api()
    async with api.client() as client:
        with pytest.raises(ExtendInputError, match="is not a run id"):
            await getattr(client, method)(run_id)
    assert api.requests == []


async def test_an_unexpected_prefix_is_warned_about_once_and_used(caplog):
    api = Api({"id": "cl_1"}, {"id": "cl_2"}, {"id": "clr_3"}, {"id": "noprefix"})
    async with api.client() as client:
        for run_id in ("cl_1", "cl_2", "clr_3", "noprefix"):
            await client.get_run(run_id)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["'cl_1' does not begin with 'clr_', as the ids of classify runs do"]


@pytest.mark.parametrize("kind", ["edit", "form_detection", "batch", "CLASSIFY", ""])
async def test_a_kind_that_cannot_be_cancelled_is_one_clear_sentence(kind):
    async with Api().client() as client:
        with pytest.raises(ExtendInputError, match="not a kind of run that Extend can cancel: use one of classify"):
            await client.cancel_run("clr_1", kind)


async def test_pages_are_read_with_the_same_parameters_to_the_end():
    api = Api(a_page(a_run(1), a_run(2), token="a==:b="), a_page(token="c"), a_page(a_run(3), token=""))
    async with api.client() as client:
        pages = [page async for page in client.iter_pages(page_size=2, source="API", batch_id="bpr_1")]
    assert [[run.id for run in page.runs] for page in pages] == [["clr_1", "clr_2"], [], ["clr_3"]]
    assert [page.read_at for page in pages] == [NOON] * 3
    asked = {
        "status": "PROCESSING",
        "sortBy": "updatedAt",
        "sortDir": "asc",
        "maxPageSize": "2",
        "source": "API",
        "batchId": "bpr_1",
    }
    assert api.queries == [asked, asked | {"nextPageToken": "a==:b="}, asked | {"nextPageToken": "c"}]


async def test_a_page_is_read_only_when_it_is_asked_for():
    api = Api(a_page(a_run(1), token="more"))
    async with api.client() as client:
        async for _ in client.iter_pages():
            break
    assert len(api.requests) == 1


async def test_the_listing_goes_on_over_all_pages():
    api = Api(a_page(a_run(1), "no run", token="more"), a_page(a_run(2)))
    async with api.client() as client:
        pages = [page async for page in client.iter_pages(file_name_contains="tax & co")]
    assert [run.id for page in pages for run in page.runs] == ["clr_1", "clr_2"]
    assert api.queries[0]["fileNameContains"] == "tax & co"


async def test_all_statuses_can_be_listed_latest_first():
    api = Api(a_page())
    async with api.client() as client:
        (page,) = [page async for page in client.iter_pages(status=None, sort_by="createdAt", sort_dir="desc")]
    assert page.runs == []
    assert api.queries == [{"sortBy": "createdAt", "sortDir": "desc", "maxPageSize": "100"}]


async def test_a_listing_that_does_not_sort_is_not_asked_to():
    api = Api(a_page())
    async with api.client() as client:
        assert [page.runs async for page in client.iter_pages("parse")] == [[]]
    assert api.sent == [("GET", "/parse_runs?status=PROCESSING&maxPageSize=100")]


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"]])
async def test_a_repeated_page_token_is_an_error_and_no_loop(tokens):
    api = Api(*(a_page(token=token) for token in tokens))
    async with api.client() as client:
        with pytest.raises(ExtendUnexpectedResponseError, match="a repeated page token"):
            [page async for page in client.iter_pages()]
    assert api.responses == []


async def test_items_that_are_not_runs_are_counted_and_skipped():
    items = [a_run(1), None, "x", {}, {"id": ""}, a_run(3) | {"object": "parse_run"}, a_run(2)]
    async with Api(a_page(*items)).client() as client:
        (page,) = [page async for page in client.iter_pages()]
    assert ([run.id for run in page.runs], page.unreadable) == (["clr_1", "clr_2"], 5)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[]", "not a list of runs"),
        (b'{"data": {}}', "not a list of runs"),
        (b'{"object": "list"}', "not a list of runs"),
        (b'{"data": [], "nextPageToken": 5}', "a page token that is not text"),
    ],
)
async def test_a_response_without_a_listing_is_unexpected(body, problem):
    async with Api(body).client() as client:
        with pytest.raises(ExtendUnexpectedResponseError, match=problem):
            [page async for page in client.iter_pages()]


@pytest.mark.parametrize(
    ("kind", "options", "problem"),
    [
        ("verify", {"batch_id": "bpr_1"}, "verify runs cannot be listed by batch_id"),
        ("workflow", {"source": "API"}, "workflow runs cannot be listed by source"),
        ("classify", {"source": ""}, "source is empty"),
        ("classify", {"batch_id": "  "}, "batch_id is empty"),
        ("classify", {"status": ""}, "status is empty"),
        ("classify", {"page_size": 0}, "1 to 1000 runs, not 0"),
        ("classify", {"page_size": 1001}, "1 to 1000 runs, not 1001"),
    ],
)
async def test_a_filter_that_would_mean_all_runs_is_refused(kind, options, problem):
    api = Api()
    async with api.client() as client:
        with pytest.raises(ExtendInputError, match=problem):
            client.iter_pages(kind, **options)
    assert api.requests == []


async def test_a_client_is_used_inside_its_context_and_once():
    client = Api().client()
    with pytest.raises(ExtendInputError, match="not open yet: use it inside `async with"):
        await client.get_run("clr_1")
    async with client:
        with pytest.raises(ExtendInputError, match="is open already"):
            await client.__aenter__()
    with pytest.raises(ExtendInputError, match="is closed: use it inside"):
        await client.cancel_run("clr_1")
    with pytest.raises(ExtendInputError, match="closed already: get a new one"):
        await client.__aenter__()


async def test_the_key_is_in_nothing_that_the_client_shows():
    client = Api().client()
    async with client:
        connections = client._transport._wire._connections
        async with connections.one() as http:
            parts = (client, client._transport, client._transport._wire, connections, http)
            shown = f"{client!r} {[vars(part) for part in parts]}"
    assert KEY not in shown


async def test_a_run_says_when_it_was_asked_for():
    api = Api(a_run(1), a_page(a_run(1)))
    async with api.client() as client:
        before = client.now()
        run = await client.get_run("clr_1")
        (page,) = [page async for page in client.iter_pages()]
        after = client.now()
    for read in (run, page.runs[0]):
        assert before.monotonic <= read.asked_at.monotonic <= after.monotonic
        assert before.wall <= read.asked_at.wall <= after.wall


async def test_runs_that_were_read_at_other_moments_are_the_same():
    api = Api(a_run(1), a_run(1))
    async with api.client() as client:
        assert await client.get_run("clr_1") == await client.get_run("clr_1")


async def test_a_reserved_cancel_reads_and_writes_the_run_named():
    looked = []
    api = Api(a_run(1), a_run(1) | {"status": "CANCELLED"})
    async with api.client() as client, client.reserve_cancel("clr_1") as reserved:
        checked = await reserved.check()
        response = await reserved.send(lambda: looked.append(len(api.requests)), 10)
    assert (checked.status, response.status, looked) == ("PROCESSING", "CANCELLED", [1])
    assert api.sent == [("GET", "/classify_runs/clr_1"), ("POST", "/classify_runs/clr_1/cancel")]
    assert response.asked_at.age(response.asked_at) == 0


@pytest.mark.parametrize("run_id", BAD_IDS)
async def test_no_turn_is_reserved_for_a_bad_id(run_id):
    async with Api().client() as client:
        with pytest.raises(ExtendInputError, match="is not a run id"):
            async with client.reserve_cancel(run_id):
                pass


async def test_a_listing_out_of_a_cache_selects_nothing():
    class Cached(Api):
        def __call__(self, request):
            response = super().__call__(request)
            response.headers["age"] = "60"
            return response

    async with Cached(a_page(a_run(1))).client() as client:
        with pytest.raises(ExtendCachedResponseError, match="from a cache on the way, 60 s old"):
            [page async for page in client.iter_pages()]
