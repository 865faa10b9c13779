"""`make demo` and `make ui`, as a newcomer sees them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from support.patience import Patient

COMMAND = [str(Path(sys.executable).with_name("prefect-extend-ai")), "demo"]
TIMEOUT_SECONDS = 300
"""On a busy machine; a demo that ends early is noticed at once."""


@pytest.fixture
def environment(tmp_path: Path, measured: dict[str, str]) -> dict[str, str]:
    """Somebody with a Prefect and an Extend set up already, which the demo must leave alone."""
    for name in ("home", "temp", "cwd"):
        (tmp_path / name).mkdir()
    return (
        os.environ
        | measured
        | {
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "temp"),
            "COLUMNS": "160",
            "PREFECT_HOME": str(tmp_path / "home" / ".prefect"),
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
            "PREFECT_API_KEY": "pnu_users_own",
            "EXTEND_API_KEY": "sk_users_own",
            "EXTEND_BASE_URL": "http://127.0.0.1:9",
        }
    )


class Demo:
    """A demo that runs, and what it has said so far."""

    def __init__(self, arguments: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self.output = cwd.parent / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, what: str, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not there():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, f"no {what} in time: {self.said}"
            time.sleep(0.2)

    def wait_for_words(self, words: str) -> None:
        self.wait_for(repr(words), lambda: words in self.said)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(TIMEOUT_SECONDS)

    @property
    def prefect(self) -> str:
        return re.search(r"Prefect UI +(\S+)", self.said)[1]

    @property
    def sandbox(self) -> str:
        return re.search(r"Extend sandbox +(\S+):", self.said)[1]


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(list(arguments), tmp_path / "cwd", environment))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.interrupt()


def answers(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


def nothing_is_left(demo: Demo, tmp_path: Path) -> bool:
    homes = list((tmp_path / "temp").glob("prefect-extend-ai-*/*.db"))
    return not any([answers(demo.prefect), answers(demo.sandbox), homes])


def test_the_demo_sweeps_shows_and_leaves_nothing_behind(demo: Callable[..., Demo], tmp_path: Path):
    shown = demo()
    assert shown.process.wait(TIMEOUT_SECONDS) == 0, shown.said

    assert "Completed: Would cancel 20 of 20 stale classify runs" in shown.said
    assert "Completed: Cancelled 20 of 20 stale classify runs" in shown.said
    rows = re.findall(r"(clr_\S+) +│ [^│]+│ cancelled +│ (\S+)", shown.said)
    assert len(rows) == len(dict(rows)) == 20
    assert all(record.startswith(f"{shown.prefect}/artifacts/artifact/") for _, record in rows)

    _, _, last = shown.said.partition("as its record has it\n")
    final = json.loads(last[: last.rindex("}") + 1])
    assert final["object"] == "classify_run"
    assert final["status"] == "CANCELLED"
    assert final["id"] == rows[0][0]

    assert "Traceback" not in shown.said
    assert "Error" not in shown.said
    assert "users_own" not in shown.said
    assert nothing_is_left(shown, tmp_path)
    # Prefect makes its home when it is imported; nothing of ours may lie in it.
    assert list((tmp_path / "home").rglob("*")) in ([], [tmp_path / "home" / ".prefect"])
    assert not list((tmp_path / "cwd").iterdir())


def test_ctrl_c_in_the_middle_stops_everything(demo: Callable[..., Demo], tmp_path: Path):
    shown = demo()
    shown.wait_for_words("Extend sandbox")
    assert shown.interrupt() == 130
    assert "Traceback" not in shown.said
    assert nothing_is_left(shown, tmp_path)


def test_a_demo_that_stays_serves_the_flows_with_the_saved_block(demo: Callable[..., Demo], tmp_path: Path):
    shown = demo("--stay")
    shown.wait_for_words("Ctrl-C stops everything")
    with httpx.Client(base_url=f"{shown.prefect}/api", transport=Patient()) as prefect:
        named = prefect.get("/deployments/name/cancel-stale-runs/demo").json()
        assert list(named["parameters"]["credentials"]) == ["$ref"]
        assert f"/deployments/deployment/{named['id']}" in shown.said
        state = {"state": {"type": "SCHEDULED"}}
        clicked = prefect.post(f"/deployments/{named['id']}/create_flow_run", json=state).json()

        def run() -> dict:
            return prefect.get(f"/flow_runs/{clicked['id']}").json()

        shown.wait_for("end of the run", lambda: run()["state_type"] in ("COMPLETED", "FAILED", "CRASHED"))
        # Another run gets stuck every half a minute, so on a busy machine there may be several by now.
        assert re.match(r"Cancelled (\d+) of \1 stale classify run", run()["state"]["message"])
        assert "sk_sandbox" not in json.dumps([run(), named])

    assert shown.interrupt() == 0
    assert "Everything that was started is stopped." in shown.said
    assert nothing_is_left(shown, tmp_path)
