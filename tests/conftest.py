"""What all tests share. Nothing of the user's own Prefect or Extend set-up is read or touched."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from prefect_extend_ai import ExtendCredentials
    from prefect_extend_ai.cli.local_prefect import LocalPrefect
    from prefect_extend_ai.sandbox import Served

NEEDS = {"e2e", "browser"}
"""Folders, and the marks their tests get: what is in them needs more than Python."""
ORDER = ["unit", "contract", "e2e", "browser"]
MOST_RERUNS = 3
"""A run of the tests with more reruns than this fails: something is flaky, and not only the machine busy."""
HOME = Path(tempfile.mkdtemp(prefix="prefect-extend-ai-tests-"))

settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("night", parent=settings.get_profile("default"), max_examples=500)
settings.register_profile("prove", parent=settings.get_profile("default"), max_examples=10_000)
settings.register_profile("fast", parent=settings.get_profile("default"), max_examples=25)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)


pytest.register_assert_rewrite("support")


def pytest_configure() -> None:
    # Before anything imports prefect, which reads its settings only once. A test that forgets to ask
    # for a server must fail, not start one or find the user's.
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "EXTEND_"))]:
        del os.environ[name]
    # Where tests run in the background, Ctrl-C is ignored, and what they start would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(HOME / "unit"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First what needs a quiet process: servers and browsers leave threads, patched settings and a busy machine behind.
    if PROFILE == "fast":
        _sample(items)
    items.sort(key=lambda item: ORDER.index(next(part for part in item.path.parts[::-1] if part in ORDER)))
    for item in items:
        if item.path.parent.name == "browser":
            # On a busy machine Prefect's form now and then takes no keystroke or no click in time.
            item.add_marker(pytest.mark.flaky(reruns=3))
        elif "e2e" in item.path.parts:
            # A machine that stands still for longer than a request may take says nothing about us.
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=["ReadTimeout", "ConnectTimeout"]))
        for folder in NEEDS & {part.name for part in item.path.parents}:
            item.add_marker(folder)
            item.add_marker("slow")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Virtual time where the nearest mark says so."""
    from support.virtual_time import VirtualLoop

    marks = (mark.name for mark in item.iter_markers() if mark.name in ("virtual_time", "real_time"))
    return {"virtual": VirtualLoop} if next(marks, None) == "virtual_time" else {"real": asyncio.new_event_loop}


def _sample(items: list[pytest.Item]) -> None:
    """Of tests marked `sampled(n)` keep every n-th: `make test-fast` is for a quick look, `make test` runs all."""
    seen: dict[str, int] = {}
    for item in items[:]:
        if (marker := item.get_closest_marker("sampled")) is not None:
            name = item.nodeid.partition("[")[0]
            seen[name] = seen.get(name, -1) + 1
            if seen[name] % marker.args[0]:
                items.remove(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, pytest.TestReport]:
    """Where Chromium and servers must be had, a test that was skipped for lack of one has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and "CI" in os.environ and NEEDS & set(item.keywords):
        report.outcome, report.longrepr = "failed", f"skipped, and CI may not skip it: {report.longrepr}"
    return report


def _reruns(config: pytest.Config) -> list[pytest.TestReport]:
    """What was run again, as pytest-rerunfailures reported it: each as often as it was."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", []) if reporter else []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    # With xdist the workers' reports arrive where the run was started, and are counted there.
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and exitstatus == pytest.ExitCode.OK and len(_reruns(session.config)) > MOST_RERUNS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reruns = _reruns(config)
    for each in reruns:
        terminalreporter.section(f"why {each.nodeid} was run again", sep="-")
        terminalreporter.line(each.longreprtext[-2000:])
    if len(reruns) > MOST_RERUNS:
        terminalreporter.section("too many reruns", red=True)
        named = ", ".join(each.nodeid for each in reruns)
        terminalreporter.line(f"{len(reruns)} reruns, at most {MOST_RERUNS} are accepted: {named}")


@pytest.fixture(scope="session", autouse=True)
def measured() -> dict[str, str]:
    """The environment in which a process counts towards coverage, for those that run what no test runs itself.

    Left out of all others: measuring Prefect's servers and workers tells nothing, and makes them half as fast.
    """
    name = "COVERAGE_PROCESS_CONFIG"
    return {name: os.environ.pop(name)} if name in os.environ else {}


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[LocalPrefect]:
    """A real Prefect server over HTTP, one a session: this process, and what it imports, uses it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from prefect_extend_ai.cli.local_prefect import run_local_prefect

    with run_local_prefect(HOME / "server") as server, temporary_settings({PREFECT_API_URL: server.api_url}):
        yield server


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs what a test is about in virtual time."""
    from support.virtual_time import VirtualLoop

    with asyncio.Runner(loop_factory=VirtualLoop) as running:
        yield running


@pytest.fixture
def sandbox() -> Iterator[Served]:
    """The Extend look-alike over real HTTP on a free port, with 60 runs of which 12 are stuck."""
    from prefect_extend_ai.sandbox import World, serve

    with serve(World.populated(runs=60, stuck=12, seed=1)) as running:
        yield running


@pytest.fixture
def credentials(sandbox: Served) -> ExtendCredentials:
    """Credentials for the sandbox of this test."""
    from prefect_extend_ai import ExtendCredentials

    return ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url)
