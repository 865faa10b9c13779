"""The sandbox over real HTTP, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from prefect_extend_ai.sandbox.app import create_app
from prefect_extend_ai.sandbox.gateway import DROP
from prefect_extend_ai.sandbox.world import World

__all__ = ["Served", "serve"]

_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running sandbox.

    Attributes:
        url: its base URL, without a trailing slash.
        world: the world that it serves.
    """

    url: str
    world: World


@contextlib.contextmanager
def serve(world: World, port: int = 0, host: str = "127.0.0.1") -> Iterator[Served]:
    """Serve a world for the duration of the `with` block; port 0 picks a free one.

    Raises OSError where the port is taken, RuntimeError where the server does not start.
    """
    with socket.create_server((host, port)) as listener:
        config = uvicorn.Config(
            create_app(world),
            http=_DroppableProtocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            # The sandbox sends its world's date, which a test may set to anything.
            date_header=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="extend-sandbox", daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    raise RuntimeError("the sandbox did not start")
                time.sleep(0.005)
            address, chosen = listener.getsockname()[:2]
            yield Served(f"http://{f'[{address}]' if ':' in address else address}:{chosen}", world)
        finally:
            server.should_exit = True
            thread.join()


class _DroppableProtocol(H11Protocol):
    """uvicorn's protocol, with a way for the application to drop the connection like a broken network."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        served = self.app
        # asyncio sets TCP_NODELAY only on sockets that it made itself.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def drop() -> None:
            # SO_LINGER with zero seconds makes the close a reset.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[DROP] = drop
            await served(scope, receive, send)

        self.app: Any = app
