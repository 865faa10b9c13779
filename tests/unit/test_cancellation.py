"""One run: what is sent for it under each trouble, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from prefect_extend_ai import stop as stopping
from prefect_extend_ai.cancellation import FRESH_SECONDS, LAST_READ_SECONDS, LONGEST_PAUSE, TURN_SECONDS, cancel_one
from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendNotFoundError,
    ExtendOddAnswerError,
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUsageBlockedError,
)
from prefect_extend_ai.report import Outcome
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.staleness import StalePolicy, why_not_stale
from prefect_extend_ai.steps import MAX_POSTS
from prefect_extend_ai.stop import Stop
from prefect_extend_ai.survey import Target
from prefect_extend_ai.transport import Transport

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = (NOW - timedelta(hours=2)).isoformat()


def a_run(status="PROCESSING", kind="classify", updated=OLD, **fields):
    raw = {"id": "clr_1", "status": status, "updatedAt": updated, "createdAt": OLD, "output": None} | fields
    return Run.from_text(kind, json.dumps(raw), NOW)


class Api:
    """Stands in for ExtendClient: answers from two scripts, the last of each for ever; keeps time."""

    def __init__(self, reads, cancels=(), seconds=0.01, turns=()):
        self.reads = list(reads)
        self.cancels = list(cancels)
        self.seconds = seconds
        self.turns = list(turns)  # seconds that each cancel waits for its turn
        self.now = 0.0
        self.calls = []

    async def get_run(self, *_):
        return self._next("GET", self.reads)

    async def cancel_run(self, *_, gate):
        self.now += self.turns.pop(0) if self.turns else 0
        gate.leaving()
        answer = self._next("POST", self.cancels)
        gate.back()
        return answer

    def _next(self, method, script):
        self.calls.append(method)
        self.now += self.seconds
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self):
        return self.now

    @property
    def posts(self):
        return self.calls.count("POST")


async def cancel(api, *, stop=None, confirm_seconds=60, kind=RunKind.CLASSIFY, target=None):
    policy = StalePolicy()
    return await cancel_one(
        api,
        kind,
        target or Target("clr_1"),
        spare=lambda run, listed: why_not_stale(run, listed, 60, policy),
        stop=stop or Stop(api.clock),
        slot=contextlib.nullcontext(),
        confirm_seconds=confirm_seconds,
        clock=api.clock,
        sleep=api.sleep,
    )


P, C, DONE = a_run(), a_run("CANCELLED"), a_run("PROCESSED")
ABORTED = a_run("FAILED", failureReason="ABORTED")
TOUCHED = a_run(updated=NOW.isoformat())
LOST = [
    ExtendTransportError("reset"),
    ExtendServerError("bad gateway", status=502, request_id="req_5"),
    ExtendOddAnswerError("redirects", status=302),
    ExtendOddAnswerError("not JSON", status=200),
]
REFUSALS = [ExtendRefusedError("no", status=status) for status in (400, 409, 422)]


@pytest.mark.parametrize(
    ("reads", "cancels", "outcome", "posts", "is_open"),
    [
        ([P], [C], Outcome.CANCELLED, 1, False),
        ([P], [ABORTED], Outcome.CANCELLED, 1, False),
        ([P], [DONE], Outcome.FINISHED_FIRST, 1, False),
        ([P, P, P, C], [P], Outcome.CANCELLED, 1, False),
        ([P, P, ABORTED], [P], Outcome.CANCELLED, 1, False),
        ([P, P, DONE], [P], Outcome.FINISHED_FIRST, 1, False),
        ([P, a_run("CANCELLING"), C], [a_run("CANCELLING")], Outcome.CANCELLED, 1, False),
        ([P], [P], Outcome.UNCONFIRMED, 1, True),
        ([P, a_run("QUARANTINED")], [P], Outcome.UNCONFIRMED, 1, True),
        ([P, TOUCHED], [P], Outcome.UNCONFIRMED, 1, True),
        ([C], [], Outcome.ALREADY_CANCELLED, 0, False),
        ([DONE], [], Outcome.FINISHED_FIRST, 0, False),
        ([ABORTED], [], Outcome.FINISHED_FIRST, 0, False),
        ([TOUCHED], [], Outcome.SPARED, 0, False),
        ([a_run(metadata={"prefect_hold": 1})], [], Outcome.SPARED, 0, False),
        ([a_run("PENDING")], [], Outcome.SPARED, 0, False),
        ([a_run("NEW")], [], Outcome.SPARED, 0, False),
        ([a_run(updated=None)], [], Outcome.SPARED, 0, False),
        ([ExtendNotFoundError("no")], [], Outcome.NOT_FOUND, 0, False),
        ([P, ExtendNotFoundError("no")], [ExtendNotFoundError("no")], Outcome.NOT_FOUND, 1, False),
        # A read may miss a run that is there: what a cancel may have ended stays open, for a later look.
        ([P, ExtendNotFoundError("no")], [P], Outcome.NOT_FOUND, 1, True),
        ([ExtendServerError("down", status=503)], [], Outcome.ERROR, 0, False),
        ([P, ExtendServerError("down", status=503)], [P], Outcome.UNCONFIRMED, 1, True),
        ([P, ExtendServerError("down", status=503), C], [P], Outcome.CANCELLED, 1, False),
        ([P], [ExtendRateLimitError("slow down", status=429)], Outcome.DEFERRED, 1, False),
        ([ExtendRateLimitError("slow down", status=429)], [], Outcome.DEFERRED, 0, False),
        ([P, ExtendRateLimitError("slow down", status=429), C], [P], Outcome.CANCELLED, 1, False),
        ([P, ExtendRateLimitError("slow down", status=429)], [P], Outcome.UNCONFIRMED, 1, True),
        ([P, P, C], [LOST[0], ExtendRateLimitError("slow down", status=429)], Outcome.CANCELLED, 2, False),
        *([([P, C], [lost], Outcome.CANCELLED, 1, False) for lost in LOST]),
        *([([P, DONE], [lost], Outcome.FINISHED_FIRST, 1, False) for lost in LOST]),
        *([([P, P, C], [lost, P], Outcome.CANCELLED, 2, False) for lost in LOST]),
        *([([P], [lost], Outcome.UNCONFIRMED, MAX_POSTS, True) for lost in LOST]),
        *([([P, TOUCHED], [lost], Outcome.UNCONFIRMED, 1, True) for lost in LOST]),
        *([([P], [refusal], Outcome.REFUSED, 1, False) for refusal in REFUSALS]),
        *([([P, C], [refusal], Outcome.ALREADY_CANCELLED, 1, False) for refusal in REFUSALS]),
        *([([P, P, DONE], [refusal], Outcome.FINISHED_FIRST, 1, False) for refusal in REFUSALS]),
        # Lost after it took effect, and the repeat is refused: the first did it.
        *([([P, P, C], [LOST[0], refusal], Outcome.CANCELLED, 2, False) for refusal in REFUSALS]),
        *([([P, a_run("NEW")], [refusal], Outcome.ERROR, 1, False) for refusal in REFUSALS]),
    ],
)
async def test_each_trouble_ends_in_the_outcome_that_is_true(reads, cancels, outcome, posts, is_open):
    api = Api(reads, cancels)
    settled = await cancel(api)
    assert settled.cancellation.outcome is outcome
    assert api.posts == posts
    assert settled.open == is_open
    assert settled.cancellation.reason.strip()
    terminal = outcome in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST)
    assert (settled.final is not None and settled.final.is_terminal) == terminal
    assert api.now < 60 + LONGEST_PAUSE
    before = ["GET", *api.calls]
    assert all(before[n] == "GET" for n, call in enumerate(api.calls) if call == "POST"), "each cancel follows a read"


@pytest.mark.parametrize("error", [ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError])
@pytest.mark.parametrize(
    ("where", "outcome", "is_open"),
    [("check", Outcome.ERROR, False), ("cancel", Outcome.ERROR, False), ("confirm", Outcome.UNCONFIRMED, True)],
)
async def test_an_error_of_the_account_stops_the_whole_sweep(error, where, outcome, is_open):
    trouble = error("no", status=401)
    reads, cancels = {"check": ([trouble], [C]), "cancel": ([P], [trouble]), "confirm": ([P, trouble], [P])}[where]
    api = Api(reads, cancels)
    stop = Stop(api.clock)
    settled = await cancel(api, stop=stop)
    assert (settled.cancellation.outcome, settled.open) == (outcome, is_open)
    assert stop.error is trouble
    assert "the sweep was stopped by an error" in stop.reason


async def test_an_error_of_the_account_after_a_lost_cancel_still_asks_what_became_of_it():
    api = Api([P, P, C], [LOST[0], ExtendAuthError("no", status=401)])
    settled = await cancel(api)
    assert settled.cancellation.outcome is Outcome.CANCELLED


async def test_once_stopped_nothing_is_sent_or_read():
    api = Api([P], [C])
    stop = Stop(api.clock)
    stop.set("SIGTERM")
    settled = await cancel(api, stop=stop)
    assert (settled.cancellation.outcome, settled.cancellation.reason) == (Outcome.DEFERRED, "SIGTERM")
    assert api.calls == []


@pytest.mark.parametrize(
    ("cancels", "outcome", "posts"), [([C], Outcome.DEFERRED, 0), ([LOST[0], C], Outcome.UNCONFIRMED, 1)]
)
async def test_a_stop_between_check_and_cancel_sends_no_further_cancel(cancels, outcome, posts):
    class Stopping(Api):
        async def get_run(self, *_):
            if self.posts == posts:
                stop.set("SIGTERM")
            return await super().get_run()

    api = Stopping([P], cancels)
    stop = Stop(api.clock)
    settled = await cancel(api, stop=stop)
    assert settled.cancellation.outcome is outcome
    assert api.posts == posts


async def test_a_hurried_sweep_waits_no_longer_than_it_was_told():
    api = Api([P], [P], seconds=0)
    stop = Stop(api.clock)

    async def sleep(seconds):
        if api.now == 0:
            stop.hurry(10)
        await Api.sleep(api, seconds)

    api.sleep = sleep
    settled = await cancel(api, stop=stop, confirm_seconds=600)
    assert settled.cancellation.outcome is Outcome.UNCONFIRMED
    assert api.now == pytest.approx(10)


async def test_reads_that_wait_for_a_cancel_back_off():
    api = Api([P], [P], seconds=0)
    await cancel(api, confirm_seconds=120)
    assert api.now == pytest.approx(120)
    assert 10 <= len(api.calls) <= 22


async def test_an_answer_that_says_less_than_the_read_before_it_is_no_final_object():
    short = Run.from_text("classify", '{"id": "clr_1", "status": "CANCELLED"}', NOW)
    api = Api([P, C], [short])
    settled = await cancel(api)
    assert settled.final is C
    assert api.calls == ["GET", "POST", "GET"]


async def test_request_ids_of_failed_calls_are_kept_for_the_vendor():
    settled = await cancel(Api([P, P, C], [LOST[1], P]))
    assert settled.cancellation.request_ids == ["req_5"]
    assert "bad gateway" in settled.cancellation.reason


async def test_the_request_id_of_an_accepted_cancel_is_kept_for_the_vendor_too():
    accepted = Run.from_text("classify", P.text, P.read_at, "req_7")
    settled = await cancel(Api([P], [accepted]))
    assert settled.cancellation.outcome is Outcome.UNCONFIRMED
    assert settled.cancellation.request_ids == ["req_7"]


async def test_the_age_of_a_run_called_by_its_id_is_read_at_the_check():
    settled = await cancel(Api([P], [C]))
    assert settled.cancellation.age_minutes == 120
    listed = await cancel(Api([P], [C]), target=Target("clr_1", age_minutes=7.0))
    assert listed.cancellation.age_minutes == 7


def test_the_first_reason_to_stop_stays_and_a_timer_is_one():
    time = [0.0]
    stop = Stop(lambda: time[0])
    assert stop.reason is None
    stop.after(10, "out of time")
    time[0] = 9.9
    assert stop.reason is None
    time[0] = 10.0
    assert stop.reason == "out of time"
    stop.set("later")
    assert stop.reason == "out of time"


async def test_a_cancel_that_hangs_after_a_rate_limited_one_may_have_taken():
    """The whole call's deadline passes while the repeat of a 429 is under way: nobody knows what became of it."""
    sent = []

    async def answer(request):
        sent.append(request.method)
        if request.method == "GET":
            status = "PROCESSING" if len(sent) < 3 else "CANCELLED"
            text = json.dumps({"id": "clr_1", "status": status, "updatedAt": OLD, "createdAt": OLD})
            return httpx.Response(200, text=text, headers={"date": "Sun, 01 Mar 2026 12:00:00 GMT"})
        if sent.count("POST") == 1:
            return httpx.Response(429, headers={"retry-after": "0"})
        await asyncio.sleep(30)
        raise AssertionError("the call has a deadline")

    transport = Transport(
        "https://extend.invalid",
        SecretStr("sk_test"),
        api_version="2026-02-09",
        requests_per_second=1000,
        http_transport=httpx.MockTransport(answer),
        deadline=0.2,
    )
    async with ExtendClient(transport) as client:
        settled = await cancel_one(
            client,
            RunKind.CLASSIFY,
            Target("clr_1"),
            spare=lambda run, _: why_not_stale(run, Target("clr_1"), 60, StalePolicy()),
            stop=Stop(),
            slot=contextlib.nullcontext(),
            confirm_seconds=5,
        )
    assert settled.cancellation.outcome is Outcome.CANCELLED
    assert settled.final is not None


async def test_a_cancel_that_waited_long_for_its_turn_is_preceded_by_another_check():
    api = Api([P, P, P], [C], turns=[FRESH_SECONDS + 1, FRESH_SECONDS + 1, 1])
    settled = await cancel(api)
    assert api.calls == ["GET", "GET", "GET", "POST"]
    assert settled.cancellation.outcome is Outcome.CANCELLED


async def test_a_run_that_recovers_while_its_cancel_waits_is_spared():
    api = Api([P, TOUCHED], [C], turns=[40])
    settled = await cancel(api)
    assert (settled.cancellation.outcome, api.posts, settled.open) == (Outcome.SPARED, 0, False)


async def test_a_run_for_which_no_cancel_can_leave_is_left_for_the_next_sweep_and_nothing_is_said_to_be_sent():
    api = Api([P], [C], turns=[50] * 9)
    settled = await cancel(api)
    assert (settled.cancellation.outcome, api.posts, settled.open) == (Outcome.DEFERRED, 0, False)
    assert "rate limit let no request through" in settled.cancellation.reason
    assert api.now <= TURN_SECONDS + 60


class Silent(Api):
    """Never answers what is asked for by this method, having let it leave or not."""

    def __init__(self, method, *, leaves, **options):
        super().__init__([P], [P], **options)
        self.method, self.leaves = method, leaves

    async def get_run(self, *_):
        if self.method == "GET" and ("POST" in self.calls) == self.leaves:
            await asyncio.Event().wait()
        return await super().get_run()

    async def cancel_run(self, *_, gate):
        if self.method == "POST":
            if self.leaves:
                gate.leaving()
                self.calls.append("POST")
            await asyncio.Event().wait()
        return await super().cancel_run(gate=gate)


@pytest.mark.parametrize(
    ("method", "leaves", "outcome", "is_open"),
    [
        ("GET", False, Outcome.DEFERRED, False),
        ("POST", False, Outcome.DEFERRED, False),
        ("POST", True, Outcome.UNCONFIRMED, True),
        ("GET", True, Outcome.UNCONFIRMED, True),
    ],
    ids=["the check", "the turn of the cancel", "the answer to the cancel", "the confirmation"],
)
async def test_a_sweep_that_is_stopped_waits_for_nothing_that_does_not_come(
    method, leaves, outcome, is_open, monkeypatch
):
    monkeypatch.setattr(stopping, "LOOK_EVERY", 0.01)
    api = Silent(method, leaves=leaves)
    stop = Stop(api.clock)
    going = asyncio.create_task(cancel(api, stop=stop))
    await asyncio.sleep(0.05)
    assert not going.done()
    stop.set("the sweep was stopped (SIGTERM)")
    stop.hurry(1)
    api.now += 100
    settled = await asyncio.wait_for(going, 5)
    assert (settled.cancellation.outcome, settled.open) == (outcome, is_open)
    assert api.posts == int(leaves)


async def test_reads_that_hang_do_not_outlast_the_time_to_confirm(monkeypatch):
    monkeypatch.setattr(stopping, "LOOK_EVERY", 0.01)
    api = Silent("GET", leaves=True)
    going = asyncio.create_task(cancel(api))
    await asyncio.sleep(0.05)
    assert not going.done()
    api.now += 60 + LAST_READ_SECONDS
    settled = await asyncio.wait_for(going, 5)
    assert (settled.cancellation.outcome, settled.open) == (Outcome.UNCONFIRMED, True)
    assert "no read came in time" in settled.cancellation.reason
