"""A proxy before a server, which a test may tell to fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


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
    Both run in the proxy's own loop, where `refuse(seconds)` may be called too.
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
        asyncio.run_coroutine_threadsafe(self._listen(0), loop).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self.upstream.path}"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _listen(self, port):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", port, limit=2**24)

    def refuse(self, seconds):
        """Refuse connections for some seconds; those that there are remain."""
        port = self._server.sockets[0].getsockname()[1]
        self._server.close()

        async def return_later():
            await asyncio.sleep(seconds)
            await self._listen(port)

        self._return = asyncio.ensure_future(return_later())

    async def _end(self):
        self._server.close()
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
