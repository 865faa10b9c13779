"""One run: what is sent for it after each fault, and what is reported of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr

from prefect_extend_ai.client import ExtendClient, Page
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendCachedResponseError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
    ExtendUsageBlockedError,
    SharedLimitError,
)
from prefect_extend_ai.runs import FRESH, Moment, Run, RunKind
from prefect_extend_ai.sweep.attempt import LAST_READ_SECONDS, OLD_CHECKS, TURN_SECONDS
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.decision import MAX_ATTEMPTS, REFUSAL_READS
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.rules.staleness import StalePolicy, skip_reason
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop

pytestmark = pytest.mark.virtual_time

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = (NOW - timedelta(hours=2)).isoformat()


def a_run(status="PROCESSING", kind="classify", updated=OLD, **fields):
    raw = {"id": "clr_1", "status": status, "updatedAt": updated, "createdAt": OLD, "output": None} | fields
    return Run.from_text(kind, json.dumps(raw), NOW)


class Api:
    """A scripted ExtendClient: responses from lists, the last of each again and again; keeps time.

    `holds` are the seconds that each read is held back, `turns` those that pass between a check and its cancel, and
    `leaps` by how much the clock on the wall goes on in them besides, as where the machine sleeps.
    """

    def __init__(self, reads, cancels=(), *, seconds=0.01, holds=(), turns=(), leaps=(), listing=()):
        self.reads = list(reads)
        self.cancels = list(cancels)
        self.seconds = seconds
        self.holds, self.turns, self.leaps = list(holds), list(turns), list(leaps)
        self.listing = listing  # pages, or the error that a listing ends in
        self.leapt = 0.0
        self.paused_until = 0.0
        self.calls = []

    def now(self):
        return Moment(self.time, 1e9 + self.time + self.leapt)

    async def iter_pages(self, *_, **__):
        self.calls.append("LIST")
        if isinstance(self.listing, Exception):
            raise self.listing
        for runs in self.listing:
            asked_at = self.now()
            yield Page([replace(run, asked_at=asked_at) for run in runs], unreadable=0, read_at=NOW)

    @contextlib.asynccontextmanager
    async def reserve_cancel(self, *_, within):
        if self.paused_until - self.time > within:
            raise ExtendRateLimitError("Extend asks to wait longer")
        await asyncio.sleep(self.paused_until - self.time)
        yield SimpleNamespace(check=self.get_run, send=self.send)

    async def get_run(self, *_):
        asked_at = self.now()
        await asyncio.sleep(self.holds.pop(0) if self.holds else 0)
        return replace(await self._next("GET", self.reads), asked_at=asked_at)

    async def send(self, before_send, within):
        assert within >= 0
        await asyncio.sleep(self.turns.pop(0) if self.turns else 0)
        self.leapt += self.leaps.pop(0) if self.leaps else 0
        before_send()
        asked_at = self.now()
        try:
            return replace(await self._next("POST", self.cancels), asked_at=asked_at)
        except ExtendRateLimitError:
            self.paused_until = self.time + 50
            raise

    async def _next(self, method, script):
        self.calls.append(method)
        await asyncio.sleep(self.seconds)
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def time(self):
        return asyncio.get_running_loop().time()

    @property
    def posts(self):
        return self.calls.count("POST")


async def cancel(api, *, stop=None, confirm_seconds=60, kind=RunKind.CLASSIFY, target=None, **options):
    policy = StalePolicy()
    return await cancel_one(
        api,
        kind,
        target or Target("clr_1"),
        recheck=lambda run, listed: skip_reason(run, listed, 60, policy),
        stop=stop or Stop(),
        slot=contextlib.nullcontext(),
        confirm_seconds=confirm_seconds,
        **options,
    )


P, C, DONE = a_run(), a_run("CANCELLED"), a_run("PROCESSED")
ABORTED = a_run("FAILED", failureReason="ABORTED")
TOUCHED = a_run(updated=NOW.isoformat())
LOST = [
    ExtendTransportError("reset"),
    ExtendServerError("bad gateway", status=502, request_id="req_5"),
    ExtendUnexpectedResponseError("redirects", status=302),
    ExtendUnexpectedResponseError("not JSON", status=200),
]
REFUSALS = [ExtendRefusedError("no", status=status) for status in (400, 409, 422)]
MISSING = ExtendNotFoundError("no such run", status=404)
REVIEW = a_run("NEEDS_REVIEW", "workflow")


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
        ([MISSING], [], Outcome.NOT_FOUND, 0, False),
        # A read may miss a run that is there: what a cancel may have ended stays open, for a later look.
        ([P, MISSING], [MISSING], Outcome.NOT_FOUND, 1, True),
        ([P, MISSING], [P], Outcome.NOT_FOUND, 1, True),
        # One 404 alone, or two, may come from a gateway that knows nothing of it.
        ([MISSING, MISSING, P], [C], Outcome.CANCELLED, 1, False),
        ([MISSING, C], [], Outcome.ALREADY_CANCELLED, 0, False),
        ([P, MISSING, MISSING, C], [P], Outcome.CANCELLED, 1, False),
        ([P, MISSING, P, MISSING, MISSING, C], [P], Outcome.CANCELLED, 1, False),
        ([P, P], [MISSING, C], Outcome.CANCELLED, 2, False),
        ([P, C], [MISSING], Outcome.CANCELLED, 1, False),
        ([P], [MISSING], Outcome.REFUSED, MAX_ATTEMPTS, True),
        ([ExtendServerError("down", status=503)], [], Outcome.ERROR, 0, False),
        ([P, ExtendServerError("down", status=503)], [P], Outcome.UNCONFIRMED, 1, True),
        ([P, ExtendServerError("down", status=503), C], [P], Outcome.CANCELLED, 1, False),
        ([P], [ExtendRateLimitError("slow down", status=429)], Outcome.DEFERRED, 3, False),
        ([P], [ExtendRateLimitError("slow down", status=429), C], Outcome.CANCELLED, 2, False),
        ([ExtendRateLimitError("slow down", status=429)], [], Outcome.DEFERRED, 0, False),
        # A 429 is not carried out; but neither is it evidence of somebody else.
        ([P, C], [ExtendRateLimitError("slow down", status=429)], Outcome.CANCELLED, 1, False),
        ([P, ExtendRateLimitError("slow down", status=429), C], [P], Outcome.CANCELLED, 1, False),
        ([P, ExtendRateLimitError("slow down", status=429)], [P], Outcome.UNCONFIRMED, 1, True),
        ([P, P, C], [LOST[0], ExtendRateLimitError("slow down", status=429)], Outcome.CANCELLED, 2, False),
        *([([P, C], [lost], Outcome.CANCELLED, 1, False) for lost in LOST]),
        *([([P, DONE], [lost], Outcome.FINISHED_FIRST, 1, False) for lost in LOST]),
        *([([P, P, C], [lost, P], Outcome.CANCELLED, 2, False) for lost in LOST]),
        *([([P], [lost], Outcome.UNCONFIRMED, MAX_ATTEMPTS, True) for lost in LOST]),
        *([([P, TOUCHED], [lost], Outcome.UNCONFIRMED, 1, True) for lost in LOST]),
        *([([P], [refusal], Outcome.REFUSED, 1, True) for refusal in REFUSALS]),
        # A refusal does not prove that somebody else cancelled: a gateway may have sent ours twice.
        *([([P, C], [refusal], Outcome.CANCELLED, 1, False) for refusal in REFUSALS]),
        *([([P, P, ABORTED], [refusal], Outcome.CANCELLED, 1, False) for refusal in REFUSALS]),
        *([([P, a_run("CANCELLING"), C], [refusal], Outcome.CANCELLED, 1, False) for refusal in REFUSALS]),
        *([([P, a_run("CANCELLING")], [refusal], Outcome.UNCONFIRMED, 1, True) for refusal in REFUSALS]),
        *([([P, TOUCHED], [refusal], Outcome.SPARED, 1, True) for refusal in REFUSALS]),
        *([([P, P, DONE], [refusal], Outcome.FINISHED_FIRST, 1, False) for refusal in REFUSALS]),
        # Lost after it took effect, and the repeat is refused: the first did it.
        *([([P, P, C], [LOST[0], refusal], Outcome.CANCELLED, 2, False) for refusal in REFUSALS]),
        *([([P, a_run("NEW")], [refusal], Outcome.ERROR, 1, True) for refusal in REFUSALS]),
    ],
)
async def test_each_fault_ends_in_the_outcome_that_is_true(reads, cancels, outcome, posts, is_open):
    api = Api(reads, cancels)
    settled = await cancel(api)
    assert settled.cancellation.outcome is outcome
    assert api.posts == posts
    assert settled.open == is_open
    assert settled.cancellation.reason.strip()
    terminal = outcome in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST)
    assert (settled.final is not None and settled.final.is_terminal) == terminal
    assert settled.attempts == api.posts
    assert api.time < TURN_SECONDS
    before = ["GET", *api.calls]
    assert all(before[n] == "GET" for n, call in enumerate(api.calls) if call == "POST"), "each cancel follows a read"


@pytest.mark.parametrize("error", [ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError])
@pytest.mark.parametrize(
    ("where", "outcome", "is_open"),
    [("check", Outcome.ERROR, False), ("cancel", Outcome.ERROR, True), ("confirm", Outcome.UNCONFIRMED, True)],
)
async def test_an_error_that_a_listing_meets_too_stops_the_whole_sweep(error, where, outcome, is_open):
    trouble = error("no", status=401)
    reads, cancels = {"check": ([trouble], [C]), "cancel": ([P], [trouble]), "confirm": ([P, trouble], [P])}[where]
    api = Api(reads, cancels, listing=error("no", status=401))
    stop = Stop()
    settled = await cancel(api, stop=stop)
    assert (settled.cancellation.outcome, settled.open) == (outcome, is_open)
    assert stop.error is trouble
    assert "the sweep was stopped by an error" in stop.reason
    assert api.calls.count("LIST") == 1


@pytest.mark.parametrize("error", [ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError])
@pytest.mark.parametrize(
    ("where", "outcome", "is_open"),
    [("check", Outcome.ERROR, False), ("cancel", Outcome.REFUSED, True), ("confirm", Outcome.UNCONFIRMED, True)],
)
async def test_an_error_of_one_run_stops_no_other(error, where, outcome, is_open):
    trouble = error("no", status=403)
    reads, cancels = {"check": ([trouble], [C]), "cancel": ([P], [trouble]), "confirm": ([P, trouble], [P])}[where]
    api = Api(reads, cancels, listing=[[P]])
    stop = Stop()
    settled = await cancel(api, stop=stop)
    assert (settled.cancellation.outcome, settled.open) == (outcome, is_open)
    assert (stop.reason, stop.error) == (None, None)
    assert "HTTP 403 no" in settled.cancellation.reason


async def test_a_shared_limit_that_fails_stops_all_without_a_listing():
    class Limited(Api):
        @contextlib.asynccontextmanager
        async def reserve_cancel(self, *_, within):
            assert within
            raise SharedLimitError("not there")
            yield

    api = Limited([P], [C])
    stop = Stop()
    settled = await cancel(api, stop=stop)
    assert (settled.cancellation.outcome, settled.open, api.calls) == (Outcome.ERROR, False, [])
    assert isinstance(stop.error, SharedLimitError)


async def test_an_account_error_after_a_lost_cancel_still_reads_it():
    error = ExtendAuthError("no", status=401)
    api = Api([P, P, C], [LOST[0], error], listing=error)
    settled = await cancel(api)
    assert settled.cancellation.outcome is Outcome.CANCELLED


async def test_once_stopped_nothing_is_sent_or_read():
    api = Api([P], [C])
    stop = Stop()
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
    stop = Stop()
    settled = await cancel(api, stop=stop)
    assert settled.cancellation.outcome is outcome
    assert api.posts == posts
    assert len(api.calls) < 20


async def test_a_hurried_sweep_waits_no_longer_than_allowed():
    api = Api([P], [P], seconds=0)
    stop = Stop()
    stop.hurry(10)
    settled = await cancel(api, stop=stop, confirm_seconds=600)
    assert settled.cancellation.outcome is Outcome.UNCONFIRMED
    assert api.time == pytest.approx(10)


async def test_reads_that_wait_for_a_cancel_back_off():
    api = Api([P], [P], seconds=0)
    await cancel(api, confirm_seconds=120)
    assert api.time == pytest.approx(120)
    assert 10 <= len(api.calls) <= 22


async def test_a_response_that_says_less_is_no_final_object():
    short = Run.from_text("classify", '{"id": "clr_1", "status": "CANCELLED"}', NOW)
    api = Api([P, C], [short])
    settled = await cancel(api)
    assert settled.final == C
    assert api.calls == ["GET", "POST", "GET"]


async def test_request_ids_of_failed_calls_are_kept_for_the_vendor():
    settled = await cancel(Api([P, P, C], [LOST[1], P]))
    assert settled.cancellation.request_ids == ["req_5"]
    assert "bad gateway" in settled.cancellation.reason


async def test_the_request_id_of_an_accepted_cancel_is_kept():
    accepted = Run.from_text("classify", P.text, P.read_at, "req_7")
    settled = await cancel(Api([P], [accepted]))
    assert settled.cancellation.outcome is Outcome.UNCONFIRMED
    assert settled.cancellation.request_ids == ["req_7"]


async def test_the_age_of_a_run_called_by_its_id_is_read_at_the_check():
    settled = await cancel(Api([P], [C]))
    assert settled.cancellation.age_minutes == 120
    listed = await cancel(Api([P], [C]), target=Target("clr_1", age_minutes=7.0))
    assert listed.cancellation.age_minutes == 7


async def test_the_first_reason_to_stop_stays_and_a_timer_is_one():
    stop = Stop()
    stop.after(10, "out of time")
    await asyncio.sleep(9.9)
    assert stop.reason is None
    await asyncio.sleep(0.1)
    assert stop.reason == "out of time"
    stop.set("later")
    assert stop.reason == "out of time"


async def test_a_cancel_that_hangs_after_a_429_may_have_taken():
    """The whole call's deadline passes while the repeat of a 429 is under way: its outcome is unknown."""
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
            recheck=lambda run, _: skip_reason(run, Target("clr_1"), 60, StalePolicy()),
            stop=Stop(),
            slot=contextlib.nullcontext(),
            confirm_seconds=5,
        )
    assert settled.cancellation.outcome is Outcome.CANCELLED
    assert settled.final is not None


MEANWHILE = pytest.mark.parametrize(
    "meanwhile",
    [
        {"holds": [FRESH + 1, 2]},  # the answer to the check was held back
        {"turns": [FRESH + 1, 2]},  # the connection was slow, or the process stood still
        {"leaps": [300]},  # the machine slept, and its monotonic clock with it
        {"holds": [6, 6], "turns": [5, 3]},  # each alone would do
    ],
    ids=["held back", "slow", "suspended", "both"],
)


@MEANWHILE
async def test_a_check_that_is_too_old_is_made_again(meanwhile):
    api = Api([P], [C], **meanwhile)
    settled = await cancel(api)
    assert api.calls == ["GET", "GET", "POST"]
    assert (settled.cancellation.outcome, settled.attempts) == (Outcome.CANCELLED, 1)


@MEANWHILE
async def test_a_run_that_recovers_while_its_check_grows_old_is_spared(meanwhile):
    api = Api([P, TOUCHED], [C], **meanwhile)
    settled = await cancel(api)
    assert (settled.cancellation.outcome, api.posts, settled.open) == (Outcome.SPARED, 0, False)


@pytest.mark.parametrize("meanwhile", [{"holds": [25] * 9}, {"turns": [25] * 9}, {"leaps": [25] * 9}])
async def test_three_checks_in_a_row_that_are_too_old_are_an_error(meanwhile):
    api = Api([P], [C], **meanwhile)
    settled = await cancel(api)
    assert api.calls == ["GET"] * OLD_CHECKS
    assert (settled.cancellation.outcome, settled.open, settled.attempts) == (Outcome.ERROR, False, 0)
    assert "3 checks in a row came back too old" in settled.cancellation.reason
    assert "25 s old" in settled.cancellation.reason
    assert "slow proxy" in settled.cancellation.reason


async def test_a_cached_response_is_not_a_check():
    cached = ExtendCachedResponseError("from a cache on the way, 3000 s old", status=200)
    settled = await cancel(Api([cached, cached, P], [C]))
    assert settled.cancellation.outcome is Outcome.CANCELLED
    settled = await cancel(Api([cached], [C]))
    assert (settled.cancellation.outcome, settled.attempts) == (Outcome.ERROR, 0)
    assert "from a cache on the way, 3000 s old" in settled.cancellation.reason


async def test_a_cached_response_confirms_nothing():
    cached = ExtendCachedResponseError("from a cache on the way, 3000 s old", status=200)
    settled = await cancel(Api([P, cached, C], [P]))
    assert settled.cancellation.outcome is Outcome.CANCELLED
    settled = await cancel(Api([P, cached], [P]))
    assert (settled.cancellation.outcome, settled.open) == (Outcome.UNCONFIRMED, True)


async def test_old_checks_after_a_lost_cancel_send_no_other():
    api = Api([P], [LOST[0], C], holds=[0, *[25] * 9])
    settled = await cancel(api)
    assert (settled.cancellation.outcome, settled.open, settled.attempts) == (Outcome.UNCONFIRMED, True, 1)


async def test_a_run_whose_cancel_cannot_leave_is_deferred():
    api = Api([P], [ExtendRateLimitError("easy", status=429)])
    settled = await cancel(api)
    assert (settled.cancellation.outcome, settled.attempts, settled.open) == (Outcome.DEFERRED, 3, False)
    assert "rate limit let no request through" in settled.cancellation.reason
    assert api.time <= TURN_SECONDS
    # Each 429 is followed by another check, because the one before has grown old.
    assert api.calls == ["GET", "POST"] * 3


async def test_a_cancel_that_finds_no_connection_was_not_sent():
    api = Api([P], [ExtendNotSentError("could not connect"), C])
    settled = await cancel(api)
    assert (settled.cancellation.outcome, settled.attempts) == (Outcome.CANCELLED, 1)
    api = Api([P], [ExtendNotSentError("could not connect")])
    settled = await cancel(api)
    assert (settled.cancellation.outcome, settled.attempts, settled.open) == (Outcome.ERROR, 0, False)
    assert settled.cancellation.reason == "could not connect; no cancel was sent"
    assert api.time < 5


@pytest.mark.parametrize(
    ("reads", "cancels", "says"),
    [
        ([P], [ExtendServerError("boom", status=500)], "4 cancels sent (responses: 500, 500, 500, 500), none accepted"),
        ([P], [LOST[0]], "4 cancels sent (responses: none, none, none, none), none accepted"),
        ([P], [LOST[3]], "responses: 200 (not a run), 200 (not a run)"),
        ([P], [LOST[1], P], "2 cancels sent (responses: 502, accepted); the status was still PROCESSING"),
        ([P], [P], "1 cancel sent (accepted); the status was still PROCESSING at the deadline"),
        ([P, C], [REFUSALS[0]], "1 cancel sent (responses: 400), status is CANCELLED; Extend did not accept it, but"),
        ([P], [REFUSALS[1]], "Extend refuses the cancel and the run is still PROCESSING: HTTP 409 no; 1 cancel sent"),
        ([P, C], [LOST[1]], "1 cancel sent (responses: 502), status is CANCELLED; confirmed by a read after"),
        ([P], [C], "1 cancel sent (accepted), status is CANCELLED"),
        ([C], [], "cancelled already at its check"),
        ([P, MISSING], [P], "gone; 1 cancel sent (accepted): HTTP 404 no such run"),
        ([P, a_run("NEW")], [REFUSALS[0]], "and NEW is neither in progress nor an end"),
    ],
)
async def test_a_reason_says_what_was_sent_and_returned(reads, cancels, says):
    settled = await cancel(Api(reads, cancels))
    assert says in settled.cancellation.reason
    accepted = any(isinstance(each, Run) for each in cancels)
    assert ("accepted" in settled.cancellation.reason.replace("none accepted", "")) == accepted


async def test_a_run_that_goes_on_to_review_first_is_spared():
    api = Api([replace(P, kind=RunKind.WORKFLOW), REVIEW], [REFUSALS[0]])
    settled = await cancel(api, kind=RunKind.WORKFLOW, target=Target("clr_1", NOW - timedelta(hours=2)))
    assert (settled.cancellation.outcome, settled.open) == (Outcome.SPARED, False)
    assert settled.cancellation.reason.startswith("went on to review (NEEDS_REVIEW)")
    assert api.calls.count("GET") == 1 + REFUSAL_READS


async def test_a_run_in_review_after_an_accepted_cancel_is_pending():
    api = Api([replace(P, kind=RunKind.WORKFLOW), REVIEW], [REVIEW])
    settled = await cancel(api, kind=RunKind.WORKFLOW, target=Target("clr_1", NOW - timedelta(hours=2)))
    assert (settled.cancellation.outcome, settled.open) == (Outcome.UNCONFIRMED, True)
    assert "it went on to review (NEEDS_REVIEW)" in settled.cancellation.reason
    assert "still" not in settled.cancellation.reason


@pytest.mark.parametrize(
    ("seconds_ago", "outcome", "says"),
    [
        (60, Outcome.ALREADY_CANCELLED, "somebody else's cancel: it last changed before ours was sent"),
        (1, Outcome.CANCELLED, "accepts the cancel of a verify run that has ended too, so another may have come first"),
        (0, Outcome.CANCELLED, "1 cancel sent (accepted), status is CANCELLED"),
        (7200, Outcome.CANCELLED, "another may have come first"),  # a cancel that does not move updatedAt
    ],
)
async def test_whose_cancel_it_was_is_said_if_both_were_accepted(seconds_ago, outcome, says):
    changed = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    api = Api([a_run(kind="verify")], [a_run("CANCELLED", "verify", changed)], seconds=0)
    settled = await cancel(api, kind=RunKind.VERIFY)
    assert settled.cancellation.outcome is outcome
    assert says in settled.cancellation.reason
    assert ("another" in settled.cancellation.reason) == ("another" in says)


class Silent(Api):
    """Never answers what is asked for by this method, having let it leave or not."""

    def __init__(self, method, *, leaves, **options):
        super().__init__([P], [P], **options)
        self.method, self.leaves = method, leaves

    async def get_run(self, *_):
        if self.method == "GET" and ("POST" in self.calls) == self.leaves:
            await asyncio.Event().wait()
        return await super().get_run()

    async def send(self, before_send, within):
        if self.method == "POST":
            if self.leaves:
                before_send()
                self.calls.append("POST")
            await asyncio.Event().wait()
        return await super().send(before_send, within)


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
async def test_a_stopped_sweep_waits_for_no_response_that_hangs(method, leaves, outcome, is_open):
    api = Silent(method, leaves=leaves)
    stop = Stop()
    going = asyncio.create_task(cancel(api, stop=stop))
    await asyncio.sleep(5)
    assert not going.done()
    stop.set("the sweep was stopped (SIGTERM)")
    stop.hurry(1)
    settled = await going
    assert api.time <= 6 + LAST_READ_SECONDS + 0.1
    assert (settled.cancellation.outcome, settled.open) == (outcome, is_open)
    assert api.posts == int(leaves)


async def test_reads_that_hang_do_not_outlast_the_time_to_confirm():
    api = Silent("GET", leaves=True)
    settled = await cancel(api)
    assert api.time == pytest.approx(60 + LAST_READ_SECONDS, abs=0.1)
    assert (settled.cancellation.outcome, settled.open) == (Outcome.UNCONFIRMED, True)
    assert "no read came in time" in settled.cancellation.reason
