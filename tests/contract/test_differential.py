"""The same call through our client and through the vendor's SDK: the same facts, and where they part, why.

docs/comparison.md tells the second half as a table, a row for each test.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from extend_ai import AsyncExtend, Extend
from extend_ai.core import http_client
from extend_ai.core.api_error import ApiError
from extend_ai.errors import BadRequestError, NotFoundError, UnauthorizedError

from prefect_extend_ai import ExtendCredentials, Outcome, Run
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendInputError,
    ExtendNotFoundError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop
from support.in_process import client_of
from support.virtual_time import VirtualLoop

CLASSIFY = RunKind.CLASSIFY
STATUSES = ["PENDING", "PROCESSING", "PROCESSED", "FAILED", "CANCELLED"]


@pytest.fixture
async def ours(served):
    async with ExtendCredentials(
        api_key="sk_sandbox", base_url=served.url, requests_per_second=1000
    ).get_client() as it:
        yield it


@pytest.fixture
def impatient(monkeypatch):
    """The SDK with its retries but without its pauses, which are noted."""
    pauses = []
    of = http_client._retry_timeout

    def note(response, retries):
        pauses.append(of(response, retries))
        return 0.0

    monkeypatch.setattr(http_client, "_retry_timeout", note)
    return pauses


def facts(run):
    """What both tell of a run, in the same words."""
    if isinstance(run, Run):
        return {
            "id": run.id,
            "status": run.status,
            "created": run.created_at,
            "updated": run.updated_at,
            "processor": run.processor_id,
            "reason": run.failure_reason,
            "metadata": run.metadata,
            "files": run.file_names,
            "url": run.dashboard_url,
        }
    kind = RunKind(run.object.removesuffix("_run"))
    processor = getattr(run, kind.processor) if kind.processor else None
    files = run.files if kind is RunKind.WORKFLOW else [run.file]
    return {
        "id": run.id,
        "status": str(run.status.value),
        "created": moment(getattr(run, "created_at", None)),
        "updated": moment(getattr(run, "updated_at", None)),
        "processor": processor.id if processor else None,
        "reason": getattr(run, "failure_reason", None),
        "metadata": getattr(run, "metadata", None) or {},
        "files": [file.name for file in files],
        "url": getattr(run, "dashboard_url", None),
    }


def moment(value):
    assert value is None or isinstance(value, datetime)
    return value


def populate(world, kind):
    """Runs of every status and then some, and their ids."""
    return [
        world.add(
            kind,
            status,
            age_minutes=number,
            created_minutes=number * 2,
            processor=f"{kind}_p" if number % 2 else None,
            metadata={"customer": f"c-{number}"} if number % 3 else None,
            failure_reason="INTERNAL_ERROR" if status == "FAILED" else None,
        )
        for number, status in enumerate(STATUSES * 5)
    ]


async def test_every_run_reads_the_same(sdk, ours, world, kind):
    for run_id in populate(world, kind):
        assert facts(await ours.get_run(run_id, kind)) == facts(await sdk(kind, "retrieve", run_id))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("asked", [*itertools.product([None, "PROCESSING", "FAILED"], ["asc", "desc"])])
async def test_every_page_lists_the_same(sdk, ours, world, kind, asked):
    status, direction = asked
    populate(world, kind)
    order = {"sort_by": "createdAt", "sort_dir": direction} if kind.sortable else {}
    options = {"status": status} if status else {}
    pages = [page async for page in ours.iter_pages(kind, status=status, page_size=4, **order)]
    token = {}
    for page in pages:
        theirs = await sdk(kind, "list", max_page_size=4, **options, **order, **token)
        assert [facts(run) for run in page.runs] == [facts(run) for run in theirs.data]
        token = {"next_page_token": theirs.next_page_token}
    assert token["next_page_token"] is None
    assert sum(len(page.runs) for page in pages) == (5 if status else 25)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("status", [*STATUSES, "NEEDS_REVIEW", "CANCELLING"])
async def test_a_cancel_does_and_says_the_same_or_is_refused_alike(sdk, ours, world, kind, status):
    mine, theirs = world.add(kind, status, age_minutes=5), world.add(kind, status, age_minutes=5)
    if status in kind.cancellable or (kind is RunKind.VERIFY and status in kind.terminal):
        got, said = facts(await ours.cancel_run(mine, kind)), facts(await sdk(kind, "cancel", theirs))
        same = got.keys() - {"id", "url", "created", "updated"}
        assert {name: got[name] for name in same} == {name: said[name] for name in same}
    else:
        with pytest.raises(ExtendRefusedError) as refusal:
            await ours.cancel_run(mine, kind)
        with pytest.raises(BadRequestError) as refused:
            await sdk(kind, "cancel", theirs)
        assert (refusal.value.status, refusal.value.code) == (refused.value.status_code, refused.value.body["code"])
        assert refusal.value.request_id.startswith("req_")
    assert world.get(mine).status == world.get(theirs).status


async def test_what_is_not_found_or_not_allowed_is_refused_alike(sdk, ours, world, kind, served):
    missing = f"{kind.id_prefix}nobody"
    for method, call in [("retrieve", ours.get_run), ("cancel", ours.cancel_run)]:
        with pytest.raises(ExtendNotFoundError) as mine:
            await call(missing, kind)
        with pytest.raises(NotFoundError) as theirs:
            await sdk(kind, method, missing)
        assert (mine.value.status, mine.value.code) == (404, theirs.value.body["code"])
    sdk.connect("sk_wrong")
    async with ExtendCredentials(api_key="sk_wrong", base_url=served.url).get_client() as wrong:
        with pytest.raises(ExtendAuthError):
            await wrong.get_run(missing, kind)
    with pytest.raises(UnauthorizedError):
        await sdk(kind, "retrieve", missing)


# Where they part.


async def test_an_id_stays_one_segment_of_the_path(sdk, ours, world):
    run_id = world.add(id="clr_A", age_minutes=90)
    for other in ("a/../clr_A?c", "clr_%41"):
        # The SDK sends the id unquoted, and so reads or cancels another run than the named one.
        assert (await sdk(CLASSIFY, "cancel" if "%" in other else "retrieve", other)).id == run_id
        asked = len(world.journal)
        with pytest.raises(ExtendInputError, match="is not a run id"):
            await ours.cancel_run(other)
        assert len(world.journal) == asked
    assert world.get(run_id).status == "CANCELLED"
    assert (await ours.get_run(world.add(id="clr_a&b=c;d+e:@ü"))).id == "clr_a&b=c;d+e:@ü"


class Elsewhere(BaseHTTPRequestHandler):
    """Another host, which answers every request with a cancelled run."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = b'{"object": "classify_run", "id": "clr_elsewhere", "status": "CANCELLED"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere():
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_redirect_is_not_followed_to_another_host(served, ours, world, elsewhere):
    run_id = world.add(age_minutes=90)
    address = f"http://localhost:{elsewhere.server_port}/login"
    world.troubles.add(f"cancel:*:redirect={address}@1-")
    # With the SDK's own connections, which it has follow redirects.
    extend, extend_too = (sdk(base_url=served.url, token="sk_sandbox") for sdk in (Extend, AsyncExtend))
    theirs = extend.classify_runs.cancel(run_id)
    theirs_async = await extend_too.classify_runs.cancel(run_id)
    extend._client_wrapper.httpx_client.httpx_client.close()
    await extend_too._client_wrapper.httpx_client.httpx_client.aclose()
    assert theirs.id == theirs_async.id == "clr_elsewhere"
    assert theirs.status.value == "CANCELLED"
    assert elsewhere.asked == ["/login", "/login"]
    with pytest.raises(ExtendUnexpectedResponseError, match="redirects to localhost, which was not followed"):
        await ours.cancel_run(run_id)
    assert elsewhere.asked == ["/login", "/login"]
    assert world.get(run_id).status == "PROCESSING"


@pytest.mark.slow
async def test_a_lost_connection_is_tried_again_where_that_is_safe(sdk, ours, world):
    run_id = world.add(age_minutes=90)
    sdk.options = {"max_retries": 5}
    world.troubles.add("get:*:reset@1-2")
    with pytest.raises(httpx.TransportError):
        await sdk(CLASSIFY, "retrieve", run_id)
    assert len(world.journal) == 1
    assert (await ours.get_run(run_id)).status == "PROCESSING"
    assert [entry.status for entry in world.journal] == [None, None, 200]


@pytest.mark.parametrize("trouble", ["reset-after", "500-after", "html-after", "empty-after"])
async def test_a_cancel_whose_response_was_lost_is_still_cancelled(sdk, ours, world, impatient, trouble):
    mine, theirs = world.add(age_minutes=90), world.add(age_minutes=90)
    world.troubles.add(f"cancel:{theirs}:{trouble}", f"cancel:{mine}:{trouble}")
    sdk.options = {"max_retries": 2}
    # After a 500 the SDK sends the cancel again, and raises the refusal of a run that it has just cancelled.
    with pytest.raises((ApiError, httpx.TransportError)):
        await sdk(CLASSIFY, "cancel", theirs)
    assert world.get(theirs).status == "CANCELLED"
    settled = await cancel_one(
        ours,
        CLASSIFY,
        Target(mine),
        recheck=lambda *_: None,
        stop=Stop(),
        slot=asyncio.Semaphore(),
        confirm_seconds=20,
    )
    assert settled.cancellation.outcome is Outcome.CANCELLED
    assert settled.final.text == world.text(mine)
    assert world.cancels(mine) == 1


@pytest.mark.slow
async def test_a_cancel_that_is_under_way_is_waited_for(sdk, ours, world):
    mine, theirs = world.add(age_minutes=90), world.add(age_minutes=90)
    world.troubles.add("cancel:*:cancel=on_get@1-")
    assert (await sdk(CLASSIFY, "cancel", theirs)).status.value == "PROCESSING"
    settled = await cancel_one(
        ours, CLASSIFY, Target(mine), recheck=lambda *_: None, stop=Stop(), slot=asyncio.Semaphore(), confirm_seconds=20
    )
    assert settled.final.status == "CANCELLED"


@pytest.mark.slow
async def test_a_refused_cancel_is_not_sent_again_at_once(sdk, ours, world, impatient):
    mine, theirs = world.add(age_minutes=90), world.add(age_minutes=90)
    world.troubles.add(f"cancel:{theirs}:409", f"cancel:{mine}:409")
    sdk.options = {"max_retries": 1}
    assert (await sdk(CLASSIFY, "cancel", theirs)).status.value == "CANCELLED"
    assert [entry.operation for entry in world.journal] == ["cancel", "cancel"]
    settled = await cancel_one(
        ours, CLASSIFY, Target(mine), recheck=lambda *_: None, stop=Stop(), slot=asyncio.Semaphore(), confirm_seconds=20
    )
    assert settled.cancellation.outcome is Outcome.REFUSED
    assert [entry.operation for entry in world.journal[2:]] == ["get", "cancel", "get", "get", "get"]


@pytest.mark.parametrize("case", [("0", (0.9, 1.1), 0.0), ("0.4", (0.9, 1.1), 0.4), ("7", (7, 7), 7.0)])
async def test_retry_after_is_kept_to_the_letter(sdk, world, impatient, case):
    header, theirs, mine = case
    run_id, other = world.add(), world.add()
    sdk.options = {"max_retries": 1}
    world.troubles.add(f"get:{run_id}:429={header}", f"get:{other}:429={header}")
    await sdk(CLASSIFY, "retrieve", other)
    assert theirs[0] <= impatient[0] <= theirs[1]
    assert await asyncio.to_thread(waited, world, run_id) == pytest.approx(mine, abs=0.05)


async def test_a_wait_beyond_the_deadline_is_said_instead_of_cut(sdk, ours, world, impatient):
    run_id, other = world.add(), world.add()
    sdk.options = {"max_retries": 1}
    world.troubles.add(f"get:{run_id}:429=600", f"get:{other}:429=600")
    await sdk(CLASSIFY, "retrieve", other)
    assert impatient == [60]
    with pytest.raises(ExtendRateLimitError, match="asks to wait 600 s"):
        await ours.get_run(run_id)


def waited(world, run_id):
    """How long our client waits until it has read a run, in seconds of virtual time."""

    async def read():
        async with client_of(world) as client:
            await client.get_run(run_id)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(read())


@pytest.mark.parametrize(("body", "theirs"), [("html", ApiError), ("empty", ApiError), ("list", TypeError)])
async def test_a_success_without_a_run_is_an_unexpected_response(sdk, ours, world, body, theirs):
    run_id = world.add()
    world.troubles.add(f"get:*:{body}@1-")
    with pytest.raises(theirs):
        await sdk(CLASSIFY, "retrieve", run_id)
    with pytest.raises(ExtendUnexpectedResponseError) as odd:
        await ours.get_run(run_id)
    assert odd.value.status == 200


@pytest.mark.parametrize("errors", ["text", "html", "empty"])
async def test_an_error_without_json_keeps_its_kind(sdk, ours, world, errors, monkeypatch):
    run_id = world.add(status="PROCESSED")
    monkeypatch.setattr(world, "behaviour", world.behaviour.model_copy(update={"errors": errors}))
    with pytest.raises(ApiError) as plain:
        await sdk(CLASSIFY, "cancel", run_id)
    assert plain.value.status_code == 400
    assert not isinstance(plain.value, BadRequestError)
    with pytest.raises(ExtendRefusedError) as refused:
        await ours.cancel_run(run_id)
    assert refused.value.status == 400
    assert refused.value.request_id.startswith("req_")


async def test_unknown_statuses_of_two_runs_stay_apart(sdk, ours, world):
    first, second = world.add(status="QUEUED"), world.add(status="QUARANTINED")
    theirs = [await sdk(CLASSIFY, "retrieve", run_id) for run_id in (first, second)]
    assert [run.status.value for run in theirs] == ["QUARANTINED", "QUARANTINED"]
    mine = [await ours.get_run(run_id) for run_id in (first, second)]
    assert [run.status for run in mine] == ["QUEUED", "QUARANTINED"]
    assert not any(run.is_terminal for run in mine)


async def test_a_cancelled_parse_run_is_known_to_have_ended(sdk, ours, world):
    run_id = world.add("parse", "CANCELLED")
    assert (await sdk(RunKind.PARSE, "retrieve", run_id)).status.name == "_UNKNOWN"
    assert (await ours.get_run(run_id, "parse")).is_terminal


async def test_a_run_is_kept_to_the_letter(sdk, ours, world):
    run_id = world.add(status="PROCESSED", newField={"of": "next year"})
    theirs = (await sdk(CLASSIFY, "retrieve", run_id)).json()
    mine = await ours.get_run(run_id)
    assert mine.text == world.text(run_id)
    # The SDK's model keeps unknown fields, but not how a number was written.
    assert "next year" in theirs
    assert ".50," in mine.text
    assert ".50," not in theirs


def test_the_table_of_differences_has_one_row_per_test():
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text()
    rows = re.findall(r"\| `(test_\w+)` \|$", page, re.MULTILINE)
    tests = [name for name in globals() if name.startswith("test_")]
    parting = tests[tests.index("test_an_id_stays_one_segment_of_the_path") : -1]
    assert rows == parting
