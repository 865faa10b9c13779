"""What the tests of whole sweeps share: a proxy that fails on request, sweeps as processes, artifacts."""

from __future__ import annotations

import contextlib
import itertools
import os

import pytest

from support.artifacts import Artifacts
from support.proxy import Proxy
from support.sweeping import Sweeping

SEEDS = itertools.count(1000)


@pytest.fixture
def stuck():
    """Makes a world of stale runs, whose ids no other test uses: one Prefect keeps the records of all."""

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


@pytest.fixture
def artifacts(prefect_server):
    return Artifacts(prefect_server.api_url)


@pytest.fixture
def kept(artifacts, stuck):
    """The artifacts, and the maker of worlds to hold them against."""
    return artifacts, stuck


@pytest.fixture
def sweeping(prefect_server, tmp_path, measured):
    """Starts a sweep of the Extend at `url` in a separate process; what still runs at the end is killed."""
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
