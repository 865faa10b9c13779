"""What the tests of whole sweeps share: a proxy that can be told to fail, sweeps as processes, artifacts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

SWEEP = Path(__file__).with_name("sweep_process.py")
FENCED = re.compile(r"^(`{3,})json\n(.*?)\n\1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Request:
    """A request that went through a proxy."""

    method: str
    path: str
    body: bytes

    @property
    def json(self):
        return json.loads(self.body or b"null")


class Proxy:
    """Stands before a server and may turn a request away, or lose its answer.

    `before(request)` is asked when a request comes: a status turns it away with that status. `after(request)` is asked
    when the server has answered: True loses the answer. Each works on one connection a request; web sockets pass.
    """

    def __init__(self, upstream):
        self.upstream = urlsplit(upstream)
        self.requests = []
        self.under_way = 0
        self.before = self.after = lambda _: None

    @contextlib.contextmanager
    def running(self):
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        serving = asyncio.start_server(self._answer, "127.0.0.1", 0, limit=2**24)
        server = asyncio.run_coroutine_threadsafe(serving, loop).result(10)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self.upstream.path}"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _end(self, server):
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._relay(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def _relay(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        method, path, _ = head.decode("latin-1").split(" ", 2)
        request = Request(method, path.removeprefix(self.upstream.path), body)
        self.requests.append(request)
        if status := self.before(request):
            writer.write(f"HTTP/1.1 {status} No\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}".encode())
            await writer.drain()
            return
        self.under_way += 1
        try:
            await self._pass_on(request, head, (reader, writer))
        finally:
            self.under_way -= 1

    async def _pass_on(self, request, head, client):
        reader, writer = client
        up_reader, up_writer = await asyncio.open_connection(self.upstream.hostname, self.upstream.port)
        try:
            if re.search(rb"(?i)\r\nupgrade: *websocket", head):
                up_writer.write(head)
                await asyncio.gather(self._pipe(reader, up_writer), self._pipe(up_reader, writer))
                return
            head = re.sub(rb"(?i)\r\nconnection: *[^\r]*", b"", head)
            up_writer.write(head[:-2] + b"connection: close\r\n\r\n" + request.body)
            answer = await up_reader.read()
            if not self.after(request):
                writer.write(answer)
                await writer.drain()
        finally:
            up_writer.close()

    async def quiet(self):
        """Return when no request was on its way to the server, or its answer back, for a while."""
        until, since = time.monotonic() + 60, time.monotonic()
        while time.monotonic() - since < 0.5:
            assert time.monotonic() < until, f"{self.under_way} requests are still under way"
            await asyncio.sleep(0.02)
            since = time.monotonic() if self.under_way else since

    async def _pipe(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
            writer.close()


SEEDS = itertools.count(1000)


@pytest.fixture
def stuck():
    """Makes a world of so many stale runs, whose ids no other test's have: one Prefect keeps the records of all."""

    def make(runs, **options):
        from prefect_extend_ai.sandbox import World

        world = World(seed=next(SEEDS), **options)
        for _ in range(runs):
            world.add(age_minutes=120)
        # Something finished just now, so that nobody takes the rest for an outage.
        world.add(status="PROCESSED", age_minutes=5)
        return world

    return make


@pytest.fixture
def proxied():
    """Puts a proxy before a server, as long as the test runs."""
    with contextlib.ExitStack() as stack:
        yield lambda upstream: stack.enter_context(Proxy(upstream).running())


class Artifacts:
    """What is kept in a Prefect."""

    def __init__(self, api_url):
        self.api_url = api_url

    def all(self, **filters):
        found = []
        with httpx.Client(base_url=self.api_url, timeout=60) as http:
            while True:
                asked = {"artifacts": filters, "limit": 200, "offset": len(found), "sort": "ID_DESC"}
                page = http.post("/artifacts/filter", json=asked).raise_for_status().json()
                found += page
                if len(page) < 200:
                    return found

    def records(self):
        """Every final object that is recorded, as often as it is, by its id."""
        found = {}
        for artifact in self.all(key={"exists_": False}, type={"any_": ["markdown"]}):
            for _, text in FENCED.findall(artifact["data"] or ""):
                run = json.loads(text)
                found.setdefault(run["id"], []).append(run)
        return found

    def holds_each_once(self, world):
        """Whether every run that was cancelled was so once, and is recorded once, as Extend gives it."""
        records = self.records()
        cancelled = [run_id for run_id in world.runs if world.get(run_id).status == "CANCELLED"]
        assert {run_id: records.get(run_id) for run_id in cancelled} == {
            run_id: [world.full(run_id)] for run_id in cancelled
        }
        return all(world.cancels(run_id) == 1 for run_id in cancelled)

    def one(self, artifact_id):
        (found,) = self.all(id={"any_": [artifact_id]})
        return found

    def holding(self, run_id):
        """The artifacts whose metadata say that they hold this run."""
        keyless = self.all(key={"exists_": False}, type={"any_": ["markdown"]})
        return [
            each
            for each in keyless
            if run_id in (each["metadata_"] or {}).values() and "extend_run_0" in each["metadata_"]
        ]

    def keyed(self, key, **filters):
        return self.all(key={"any_": [key]}, **filters)

    def open_intents(self, api_url, key="extend-write-ahead-classify"):
        """Run ids of each pending intent of the sweeps of this Extend."""
        notes = [artifact["data"] for artifact in self.keyed(key, type={"any_": ["json"]})]
        return [note["run_ids"] for note in notes if note["scope"]["api_url"] == api_url]


@pytest.fixture
def artifacts(prefect_server):
    return Artifacts(prefect_server.api_url)


@pytest.fixture
def kept(artifacts, stuck):
    """The artifacts, and the maker of worlds to hold them against."""
    return artifacts, stuck


class Sweeping:
    """A sweep in a process of its own."""

    def __init__(self, command, environment, output):
        self.output = output
        with output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SWEEP), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self):
        return self.output.read_text(errors="replace")

    def wait(self, seconds=300):
        return self.process.wait(seconds)

    def wait_until(self, what, there, seconds=300):
        deadline = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, f"ended before {what}: {self.said}"
            assert time.monotonic() < deadline, f"no {what} in time: {self.said}"
            time.sleep(0.05)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def sweeping(prefect_server, tmp_path, measured):
    """Starts a sweep of the Extend at `url` in a process of its own; what still runs at the end is killed."""
    started = []

    def start(url, *command, api_url=prefect_server.api_url, key="sk_sandbox", rate=100, **environment):
        settings = prefect_server.settings | {"PREFECT_API_URL": api_url, "PREFECT_HOME": str(tmp_path / "home")}
        extend = {"EXTEND_API_KEY": key, "EXTEND_BASE_URL": url, "EXTEND_REQUESTS_PER_SECOND": str(rate)}
        output = tmp_path / f"sweep-{len(started)}.log"
        started.append(Sweeping(command or ["sweep"], os.environ | measured | settings | extend | environment, output))
        return started[-1]

    yield start
    for each in started:
        each.kill()
