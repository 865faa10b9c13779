"""A temporary Prefect server, for the demo and the tests."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from prefect_extend_ai.cli.versions import require_server
from prefect_extend_ai.errors import ExtendError

__all__ = ["LocalPrefect", "free_port", "run_local_prefect"]

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below those that systems give to connections, which may take one in the seconds that a server needs to start."""
DRAIN_SECONDS = 10
LOG_SHOWN = 2000
"""Characters of the end of the server's log that an error shows."""


@dataclass(frozen=True, slots=True)
class LocalPrefect:
    """A running Prefect server.

    Attributes:
        url: where a person opens the UI, `http://127.0.0.1:4321`.
        home: its PREFECT_HOME: database, profiles, results, `server.log`.
    """

    url: str
    home: Path

    @property
    def api_url(self) -> str:
        """The value for PREFECT_API_URL."""
        return f"{self.url}/api"

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables with which another process uses this server and nothing of the user's own."""
        return {
            "DO_NOT_TRACK": "1",
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        }


@contextlib.contextmanager
def run_local_prefect(home: Path, *, timeout_seconds: float = 300) -> Iterator[LocalPrefect]:
    """Run a Prefect server on a free port of the loopback until the block ends, telemetry off.

    Args:
        home: A separate PREFECT_HOME, empty or from earlier; the user's profile and database stay untouched.
        timeout_seconds: How long it may take to answer; one that ended is noticed at once. The first start makes the
            database: 5 to 15 seconds, and minutes on a busy machine.

    Raises:
        ExtendError: What is installed here cannot run a server; it ended, or did not answer in time. Then the message
            has the end of its log.
    """
    require_server()
    home.mkdir(parents=True, exist_ok=True)
    server = LocalPrefect(f"http://{LOOPBACK}:{free_port()}", home)
    with (home / "server.log").open("wb") as log, _process(server, log.fileno()) as process:
        _wait_until_ours(server, process, time.monotonic() + timeout_seconds)
        try:
            yield server
        finally:
            _send_the_rest()


@contextlib.contextmanager
def _process(server: LocalPrefect, log: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= server.settings | {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    host, port = server.url.removeprefix("http://").split(":")
    process = subprocess.Popen(  # noqa: S603 - no word of it comes from outside
        [sys.executable, "-m", "prefect_extend_ai.cli.local_server", "--host", host, "--port", port],
        env=environment,
        cwd=server.home,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for this process: the server stops after the flows that use it
    )
    try:
        yield process
    finally:
        _stop(process)


def _send_the_rest() -> None:
    """Send what Prefect has queued here: at exit it would try for a minute to reach a server that is gone."""
    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=DRAIN_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sign, patience_seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        # The group and not the process alone: the server has child processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
            return


def _wait_until_ours(server: LocalPrefect, process: subprocess.Popen[bytes], deadline: float) -> None:
    """Return when the server answers that lives in our home: another one may have taken the port in between."""
    with httpx.Client(trust_env=False, timeout=5) as http:
        while True:
            with contextlib.suppress(httpx.TransportError, ValueError):
                answer = http.get(f"{server.api_url}/admin/settings")
                if answer.is_success and answer.json().get("home") == str(server.home):
                    return
            if process.poll() is not None:
                raise ExtendError(f"the Prefect server ended with code {process.returncode}: {_log(server)}")
            if time.monotonic() > deadline:
                raise ExtendError(f"the Prefect server did not answer in time: {_log(server)}")
            time.sleep(0.2)


def _log(server: LocalPrefect) -> str:
    return (server.home / "server.log").read_text(errors="replace")[-LOG_SHOWN:].strip() or "its log is empty"


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no connection takes meanwhile."""
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
