"""The API key goes to its own host and nowhere else: every place that it could be in is searched for it."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import logging
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import stamina

from prefect_extend_ai import ExtendCredentials, ExtendError, StalePolicy
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.sandbox import WORKSPACE, World, serve

KEY = "sk_this_is_the_key_4f9c2b"
"""What is searched for."""

STORED = {
    "/artifacts/filter": "extend-sweep-classify",
    "/events/filter": "extend.sweep.",
    "/logs/filter": "Stopped early",
    "/flow_runs/filter": "base_url",
    "/task_runs/filter": "cancel-extend-runs",
    "/flow_run_states/": "Cancelled 4 of 4",
}
"""Every place in Prefect's API where something of a sweep is kept, and what must be found there."""

SUCCEEDS = []
TROUBLES = {
    "succeeds": SUCCEEDS,
    "a server in trouble": ["cancel:*:500@1-9", "get:*:502-after@2-5"],
    "connections that are lost": ["cancel:*:reset@1-3", "cancel:*:reset-after@4-6", "get:*:reset@3-4"],
    "unexpected responses": ["cancel:*:html@1-3", "get:*:list@4-9", "cancel:*:empty-after@4-5"],
    "a key that is refused in the middle": ["cancel:*:401@3-"],
    "no credits": ["cancel:*:402@2-"],
    "a rate limit": ["cancel:*:429=0@1-4"],
}


def everything_that_prefect_keeps(api_url):
    """The text of all of it, by place."""
    with httpx.Client(base_url=api_url, timeout=60) as client:

        def pages(path):
            offset = 0
            while True:
                answer = client.post(path, json={"limit": 200, "offset": offset}).raise_for_status()
                yield answer
                if len(answer.json()) < 200:
                    return
                offset += 200

        for path in ("/artifacts/filter", "/logs/filter", "/flow_runs/filter", "/task_runs/filter"):
            for answer in pages(path):
                yield path, answer.text
        for answer in pages("/flow_runs/filter"):
            for run in answer.json():
                params = {"flow_run_id": run["id"]}
                yield "/flow_run_states/", client.get("/flow_run_states/", params=params).raise_for_status().text
        answer = client.post("/events/filter", json={"limit": 50}).raise_for_status()
        while True:
            yield "/events/filter", answer.text
            if not (url := answer.json()["next_page"]):
                return
            answer = client.get(url).raise_for_status()


def chain_of(error):
    """An error with everything that it came from or was raised beside."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def shown_by_a_reporter(error):
    """What an error reporter shows: every exception of the chain and every local of every frame of ours."""
    for each in chain_of(error):
        yield repr(each)
        yield repr(vars(each))
        summary = traceback.TracebackException.from_exception(each, capture_locals=True)
        yield "".join(summary.format())


@contextmanager
def another_host():
    """A host that a redirect points to, and what it is sent."""
    sent = []

    class Keeps(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            sent.append(str(self.headers) + self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET  # noqa: N815  # http.server's own name

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeps)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/login", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def logged(caplog):
    """Everything logged at DEBUG by anyone."""
    caplog.set_level(logging.DEBUG)
    for name in (
        "prefect",
        "prefect.flow_runs",
        "prefect.task_runs",
        "httpx",
        "httpcore",
        "prefect_extend_ai",
        "stamina",
    ):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


SEEDS = itertools.count(500_000)


def a_world(troubles=(), **options):
    # Separate ids: what an earlier test left pending is recovered wherever its ids can be read.
    world = World(seed=next(SEEDS), keys={KEY: WORKSPACE}, troubles=troubles, **options)
    for _ in range(4):
        world.add(age_minutes=120)
    return world


@pytest.mark.parametrize("troubles", TROUBLES.values(), ids=TROUBLES)
async def test_the_key_is_in_no_error_and_no_log_of_a_sweep(prefect_server, logged, troubles):
    with serve(a_world(troubles)) as sandbox:
        credentials = ExtendCredentials(api_key=KEY, base_url=sandbox.url, requests_per_second=1000)
        await sweep_and_search(credentials, logged, fails=troubles is not SUCCEEDS and "429" not in str(troubles))
        assert KEY not in repr(credentials)


async def sweep_and_search(credentials, logged, *, fails=True, **parameters):
    error = None
    try:
        await cancel_stale_runs(credentials, policy=StalePolicy(confirm_seconds=1), **parameters)
    except ExtendError as caught:
        error = caught
    assert error is None or fails
    assert KEY not in "".join(shown_by_a_reporter(error))
    state = await cancel_stale_runs(credentials, return_state=True, dry_run=True)
    assert KEY not in f"{state!r}{state.message}{state.data!r}"
    assert KEY not in logged.text
    assert not any(KEY in repr(vars(record)) for record in logged.records)


async def test_a_wrong_key_is_in_no_error_and_no_log(prefect_server, logged):
    with serve(World()) as sandbox:
        credentials = ExtendCredentials(api_key=KEY, base_url=sandbox.url)
        with pytest.raises(ExtendError, match="401") as caught:
            await cancel_stale_runs(credentials)
        assert KEY not in "".join(shown_by_a_reporter(caught.value))
        with pytest.raises(ExtendError) as caught:
            await cancel_runs(credentials, run_ids=["clr_1"])
        assert KEY not in "".join(shown_by_a_reporter(caught.value))
        assert KEY not in logged.text


async def test_a_key_out_of_reach_is_in_no_error_and_no_log(prefect_server, logged):
    credentials = ExtendCredentials(api_key=KEY, base_url="http://127.0.0.1:9")
    # As often as always, without the pauses.
    with stamina.set_testing(True, attempts=100, cap=True), pytest.raises(ExtendError) as caught:
        await cancel_stale_runs(credentials)
    assert KEY not in "".join(shown_by_a_reporter(caught.value))
    assert KEY not in logged.text


@pytest.mark.parametrize("where", ["list", "cancel"])
async def test_the_key_is_never_sent_to_where_a_redirect_points(prefect_server, where):
    with another_host() as (url, sent), serve(a_world([f"{where}:*:redirect={url}@1-9"])) as sandbox:
        credentials = ExtendCredentials(api_key=KEY, base_url=sandbox.url, requests_per_second=1000)
        await asyncio.gather(
            cancel_stale_runs(credentials, policy=StalePolicy(confirm_seconds=1)), return_exceptions=True
        )
        assert any(entry.status == 302 for entry in sandbox.world.journal)
        assert sent == []


def test_the_key_is_in_nothing_that_a_sweep_process_shows(prefect_server, proxied, sweeping):
    with serve(a_world(["get:*:slow=1"])) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = lambda request: 500 if request.method == "POST" and request.path == "/artifacts/" else None
        debug = {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG", "PREFECT_DEBUG_MODE": "true"}
        sweep = sweeping(
            sandbox.url, api_url=prefect.url, key=KEY, PREFECT_CLIENT_MAX_RETRIES="0", RECORD_PATIENCE="1", **debug
        )
        sweep.wait_until("listing", lambda: sandbox.world.journal)
        shown = [Path(f"/proc/{sweep.process.pid}/{name}").read_bytes() for name in ("cmdline", "comm", "status")]
        assert sweep.wait() == 1
        assert "DEBUG" in sweep.said
        assert KEY not in sweep.said
        assert not any(KEY.encode() in text for text in shown)
        assert not any(KEY.encode() in request.body or KEY in request.path for request in prefect.requests)


def test_a_key_in_a_frame_of_an_errors_cause_would_be_found():
    def careless():
        headers = {"authorization": f"Bearer {KEY}"}
        raise ValueError(len(headers))

    def wrapping():
        try:
            careless()
        except ValueError:
            raise ExtendError("it failed") from None

    with pytest.raises(ExtendError) as caught:
        wrapping()
    assert KEY in "".join(shown_by_a_reporter(caught.value))


def test_the_key_is_in_nothing_that_prefect_keeps_of_sweeps(prefect_server):
    """Runs last in this file: artifacts, events, logs, parameters and states of everything above."""
    deadline = time.monotonic() + 30
    missing = set(STORED)
    # Logs and events reach Prefect late, but they do.
    while missing and time.monotonic() < deadline:
        missing = set(STORED)
        for path, text in everything_that_prefect_keeps(prefect_server.api_url):
            assert KEY not in text, path
            missing -= {path} if STORED[path] in text else set()
        time.sleep(0.5)
    assert missing == set(), "not even what must be there was found"
