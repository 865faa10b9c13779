"""A check and its cancel leave one right after the other, evenly spaced at the rate, however long responses take."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import stamina
from pydantic import SecretStr

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.runs import FRESH, RunKind
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN_SECONDS = 15
LATENCIES = {
    "even": lambda _: 0.1,
    "long": lambda _: 0.8,
    "jittery": lambda dice: dice.uniform(0.02, 0.6),
    "now and then slow": lambda dice: 2.0 if dice.random() < 0.03 else 0.1,
}


class Limited:
    """An Extend of one sort of run which counts strictly: no second sees more requests of a category than the rate."""

    def __init__(self, loop, rate, latency=lambda _: 0.1, retry_after="1"):
        self.loop, self.rate, self.latency, self.retry_after = loop, rate, latency, retry_after
        self.dice = random.Random(4711)
        self.cancelled = set()
        self.granted = {"GET": [], "POST": []}
        self.throttled = 0
        self.checked = {}
        self.oldest_check = 0.0
        self.http = self.__call__

    async def __call__(self, request):
        now = self.loop.time()
        run_id = request.url.path.split("/")[2]
        granted = self.granted[request.method]
        is_over = sum(moment > now - 1 for moment in granted[-int(self.rate) - 1 :]) >= self.rate
        if request.method == "GET":
            self.checked[run_id] = now
        else:
            self.oldest_check = max(self.oldest_check, now - self.checked[run_id])
        await asyncio.sleep(self.latency(self.dice))
        date = {"date": format_datetime(START + timedelta(seconds=int(self.loop.time())), usegmt=True)}
        if is_over:
            self.throttled += 1
            return httpx.Response(429, headers=date | {"retry-after": self.retry_after})
        granted.append(now)
        if request.method == "POST":
            self.cancelled.add(run_id)
        status = "CANCELLED" if run_id in self.cancelled else "PROCESSING"
        return httpx.Response(200, headers=date, text=json.dumps({"id": run_id, "status": status}))

    def client(self, **options):
        transport = Transport(
            "https://extend.invalid",
            SecretStr("sk_test"),
            api_version="2026-02-09",
            requests_per_second=options.pop("requests_per_second", self.rate),
            http_transport=httpx.MockTransport(self.http),
            wall_clock=self.loop.time,
            **options,
        )
        return ExtendClient(transport)


async def sweep(api, runs, *, in_hand, skip=lambda _: None, **options):
    """Cancel runs, with a limit on those in progress at once."""
    slots = asyncio.Semaphore(in_hand)
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
    """A ban of a minute in the middle of a sweep: what was checked is checked again, and nobody bursts out after it."""
    loop = runner.get_loop()
    api = Limited(loop, 25, retry_after="60")
    ban = api.__call__

    async def response(request):
        if 5 <= loop.time() < 5.1 and request.method == "POST":
            api.throttled += 1
            return httpx.Response(429, headers={"retry-after": "60"})
        return await ban(request)

    api.http = response
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
