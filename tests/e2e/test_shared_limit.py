"""Several workers that share one rate limit, a global concurrency limit of Prefect's, keep within it together."""

from __future__ import annotations

import httpx
import pytest

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.errors import ExtendNotFoundError, SharedLimitError
from prefect_extend_ai.sandbox import World, serve

RATE = 10


@pytest.fixture
def make_limit(prefect_server):
    """Makes a global concurrency limit."""

    def make(name, **fields):
        wanted = {"name": name, "limit": RATE, "slot_decay_per_second": RATE} | fields
        httpx.post(f"{prefect_server.api_url}/v2/concurrency_limits/", json=wanted, timeout=30).raise_for_status()

    return make


def test_two_sweeps_in_two_processes_share_one_budget(make_limit, sweeping, stuck, artifacts):
    make_limit("extend-shared")
    with serve(stuck(20)) as sandbox:
        sweeps = [sweeping(sandbox.url, rate=1000, EXTEND_RATE_LIMIT="extend-shared") for _ in range(2)]
        ends = [sweep.wait() for sweep in sweeps]
        assert ends == [0, 0], [sweep.said for sweep in sweeps]
        times = [entry.time for entry in sandbox.world.journal]
        # Each would take a fraction of a second alone. The first second's worth may go at once.
        assert len(times) > 4 * RATE
        assert (times[-1] - times[0]).total_seconds() > 0.9 * (len(times) - RATE) / RATE - 1
        assert sandbox.world.stale(minutes=60) == []
        assert artifacts.open_intents(sandbox.url) == []


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        ("extend-missing", None, "this limit does not exist"),
        ("extend-inactive", {"active": False}, "it is not active"),
        ("extend-without-decay", {"slot_decay_per_second": 0}, "decay"),
    ],
)
async def test_a_limit_that_does_not_limit_is_an_error(name, fields, problem, make_limit):
    if fields is not None:
        make_limit(name, **fields)
    with serve(World()) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, rate_limit=name)
        async with credentials.get_client() as client:
            for _ in range(2):
                with pytest.raises(SharedLimitError, match=problem) as caught:
                    await client.get_run("clr_1")
        assert f"`prefect gcl create {name} --limit 10 --slot-decay-per-second 10`" in str(caught.value)
        assert sandbox.world.journal == []


async def test_a_limit_that_limits_lets_requests_through(make_limit):
    make_limit("extend-active")
    with serve(World()) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, rate_limit="extend-active")
        async with credentials.get_client() as client:
            with pytest.raises(ExtendNotFoundError):
                await client.get_run("clr_1")
        assert len(sandbox.world.journal) == 1
