"""A server that does not come up says why, and leaves nothing running."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from prefect_extend_ai.cli import local_prefect as module
from prefect_extend_ai.errors import ExtendError


class SomebodyElse(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"home": "/somewhere/else"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def taken_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody else's server answers on the port that looked free."""
    with HTTPServer(("127.0.0.1", 0), SomebodyElse) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(module, "free_port", lambda: server.server_port)
        yield
        server.shutdown()
        thread.join()


def program(folder: Path, script: str) -> str:
    path = folder / "server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def start(home: Path, timeout_seconds: float) -> None:
    with module.run_local_prefect(home, timeout_seconds=timeout_seconds):
        pytest.fail("it says that it runs")


def test_a_server_that_ends_is_reported_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "echo the database is locked; exit 3"))
    with pytest.raises(ExtendError, match="ended with code 3: the database is locked"):
        start(tmp_path / "home", timeout_seconds=30)


@pytest.mark.usefixtures("taken_port")
def test_another_server_on_our_port_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    with pytest.raises(ExtendError, match="did not answer in time"):
        start(tmp_path / "home", timeout_seconds=0.5)
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()
