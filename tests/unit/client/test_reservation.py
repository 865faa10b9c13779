"""A check and its cancel leave one right after the other, evenly spaced at the rate, however long responses take."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import stamina

from prefect_extend_ai.runs import FRESH, RunKind
from prefect_extend_ai.sandbox import World
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop
from support.in_process import client_of, to

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN_SECONDS = 15
LATENCIES = {
    "even": lambda _: 0.1,
    "long": lambda _: 0.8,
    "jittery": lambda dice: dice.uniform(0.02, 0.6),
    "now and then slow": lambda dice: 2.0 if dice.random() < 0.03 else 0.1,
}


class Limited(httpx.AsyncBaseTransport):
    """The way to a sandbox, with a strict limit: no second has more requests of a category than the rate."""

    def __init__(self, loop, rate, latency=lambda _: 0.1, retry_after="1"):
        self.loop, self.rate, self.latency, self.retry_after = loop, rate, latency, retry_after
        self.world = World(clock=lambda: START + timedelta(seconds=loop.time()))
        self.inner = to(self.world)
        self.dice = random.Random(4711)
        self.granted = {"GET": [], "POST": []}
        self.throttled = 0
        self.checked = {}
        self.oldest_check = 0.0
        self.ban = (0, 0)

    def is_over(self, method, now):
        is_banned = method == "POST" and self.ban[0] <= now < self.ban[1]
        return is_banned or sum(moment > now - 1 for moment in self.granted[method][-int(self.rate) - 1 :]) >= self.rate

    async def handle_async_request(self, request):
        now, method, run_id = self.loop.time(), request.method, request.url.path.split("/")[2]
        is_over = self.is_over(method, now)
        if method == "GET":
            self.checked[run_id] = now
        else:
            self.oldest_check = max(self.oldest_check, now - self.checked[run_id])
        await asyncio.sleep(self.latency(self.dice))
        if is_over:
            self.throttled += 1
            return httpx.Response(429, headers={"retry-after": self.retry_after})
        self.granted[method].append(now)
        return await self.inner.handle_async_request(request)

    def client(self, **options):
        given = {"requests_per_second": self.rate, "wall_clock": lambda: self.world.now().timestamp()}
        return client_of(self.world, http_transport=self, **(given | options))


async def sweep(api, runs, *, in_hand, skip=lambda _: None, **options):
    """Cancel runs, with a limit on those in progress at once."""
    slots = asyncio.Semaphore(in_hand)
    for number in range(runs):
        api.world.add(id=f"clr_{number}", age_minutes=120)
    async with api.client(**options) as client:
        return await asyncio.gather(
            *(
                cancel_one(
                    client,
                    RunKind.CLASSIFY,
                    Target(f"clr_{number}"),
                    recheck=lambda run, _: skip(run),
                    stop=Stop(),
                    slot=slots,
                    confirm_seconds=60,
                )
                for number in range(runs)
            )
        )


@pytest.fixture
def runner(runner):
    """Runs in virtual time, without back-off."""
    with stamina.set_testing(True):
        yield runner


# Answers of 0.8 s at 75 a second would need twice as many connections as there are.
@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("rate", "latency"),
    [(rate, latency) for rate in (10, 25, 75) for latency in LATENCIES if (rate, latency) != (75, "long")],
)
def test_a_sweep_stays_at_the_rate_however_long_responses_take(runner, rate, latency):
    loop = runner.get_loop()
    api = Limited(loop, rate, LATENCIES[latency])
    runs = rate * PLAN_SECONDS
    settled = runner.run(sweep(api, runs, in_hand=min(64, 2 * rate)))
    assert {each.cancellation.outcome for each in settled} == {Outcome.CANCELLED}
    left = api.granted["POST"]
    assert (left[9 * runs // 10] - left[0]) / (0.9 * PLAN_SECONDS) <= 1.06
    assert api.throttled < 0.01 * 2 * runs
    assert max(sum(start <= moment < start + 1 for moment in left) for start in left) <= rate
    assert api.oldest_check < 2.5


def test_no_cancel_leaves_on_a_check_from_before_a_pause(runner):
    """A ban of a minute in the middle of a sweep: what was checked is checked again, and no burst follows it."""
    loop = runner.get_loop()
    api = Limited(loop, 25, retry_after="60")
    api.ban = (5, 5.1)
    settled = runner.run(sweep(api, 300, in_hand=25))
    assert {each.cancellation.outcome for each in settled} == {Outcome.CANCELLED}
    assert api.oldest_check <= FRESH
    assert 65 <= next(moment for moment in api.granted["POST"] if moment > 6) < 67
    assert api.throttled < 10


@pytest.mark.parametrize("granted", [2, 5])
def test_asking_for_more_than_is_granted_loses_no_run(runner, granted):
    api = Limited(runner.get_loop(), granted, retry_after="2")
    asked, api.rate = 10, granted
    settled = runner.run(sweep(api, 40, in_hand=10, requests_per_second=asked))
    assert {each.cancellation.outcome for each in settled} == {Outcome.CANCELLED}
    assert api.oldest_check <= FRESH


def test_runs_that_are_spared_take_no_turn_of_others(runner):
    loop = runner.get_loop()
    api = Limited(loop, 10)
    settled = runner.run(sweep(api, 100, in_hand=10, skip=lambda run: None if run.id.endswith("9") else "held"))
    assert [each.cancellation.outcome for each in settled].count(Outcome.SPARED) == 90
    # Ten cancels among a hundred checks, which set the pace.
    assert loop.time() < 11


def test_responses_slower_than_a_check_is_valid_cancel_nothing(runner):
    api = Limited(runner.get_loop(), 10, lambda _: 12.0)
    settled = runner.run(sweep(api, 10, in_hand=10))
    assert {each.cancellation.outcome for each in settled} == {Outcome.ERROR}
    assert api.granted["POST"] == []
    assert "checks in a row came back too old" in settled[0].cancellation.reason
