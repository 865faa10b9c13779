"""The double of Extend: the sandbox's world in virtual time, reached without HTTP."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from prefect_extend_ai.client import Page
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import FRESH, Moment, Run, RunKind
from prefect_extend_ai.sandbox import WORKSPACE, Behaviour, Trouble, World
from prefect_extend_ai.sandbox.creation import read_creation
from prefect_extend_ai.sandbox.faults import Fault
from prefect_extend_ai.sandbox.listing import Query
from prefect_extend_ai.sandbox.objects import to_text
from prefect_extend_ai.sweep.resubmission.plan import RESUBMIT_OF
from support.processes import Process

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMINAL = RunKind.CLASSIFY.terminal
PAGE = 5
"""Runs a page, so that a few runs are several pages."""
ERRORS = {
    "reset": ExtendTransportError("the connection was lost"),
    "502": ExtendServerError("bad gateway", status=502),
    "html": ExtendUnexpectedResponseError("not JSON", status=200),
    "redirect": ExtendUnexpectedResponseError("redirects", status=302),
    "400": ExtendRefusedError("only in progress", status=400),
    "409": ExtendRefusedError("conflict", status=409),
    "429": ExtendRateLimitError("too many", status=429),
    "404": ExtendNotFoundError("no such run", status=404),
    "401": ExtendAuthError("wrong key", status=401),
    "unsent": ExtendNotSentError("could not connect"),
}
"""What ExtendClient makes of the sandbox's faults."""


def at(seconds):
    return START + timedelta(seconds=seconds)


@dataclass
class Meanwhile:
    """What happens to the requests for one run, in their order; an empty word is nothing.

    Attributes:
        gets: faults of single reads, in the sandbox's words; also `hold` (a hold is set) and `gone` (it is deleted).
        cancels: faults of cancels, in the same words.
        holds: for how many seconds a read is held back, before it takes effect and after.
        creates: faults of the creates that replace the run, in the same words; also `unsent` (no byte leaves).
        leaves: what happens to a cancel before its bytes leave: connecting (it takes 25 s), stopped (the process stands
            still for 40 s), suspended (the machine sleeps for five minutes).
    """

    gets: list = field(default_factory=list)
    cancels: list = field(default_factory=list)
    holds: list = field(default_factory=list)
    leaves: list = field(default_factory=list)
    creates: list = field(default_factory=list)


class Extend:
    """The world that sweeps in memory act on, which watches that none breaks a promise.

    Attributes:
        world: the sandbox's world.
        runs: each run by its id, those that were deleted too.
        meanwhile: what happens to the requests for each run; cleared, nothing does any more.
        violations: each cancel that a promise forbids.
        posts, turned_away: the cancels that were sent and not throttled, and those that were, by process and run.
        reads: what the last read of a run said, by process and run; `stale` where it allows a cancel.
        cancelled_by: the processes whose cancel was accepted, by run.
        successors: the runs that were created in place of each.
    """

    def __init__(self, loop, runs=(), **behaviour):
        self.loop = loop
        self.prefect = None
        self.suspended = self.paused_until = 0.0
        self.violations = []
        self.posts, self.turned_away = defaultdict(Counter), defaultdict(Counter)
        self.reads, self.asked = defaultdict(dict), defaultdict(dict)
        self.cancelled_by = defaultdict(set)
        self.successors = defaultdict(list)
        self.world = World(clock=self.now, behaviour=Behaviour(cancel_gets=3, **behaviour))
        self.runs = {}
        self.meanwhile = defaultdict(Meanwhile)
        for number, facts in enumerate(runs):
            self.add(f"clr_{number}", **facts)

    def add(
        self,
        run_id,
        *,
        status="PROCESSING",
        updated=-7200.0,
        held=False,
        metadata=None,
        source="API",
        processor="cl_1",
        file_name="document.pdf",
        cancel_mode=None,
        cancel_seconds=None,
        ends_at=None,
        gone=False,
        **meanwhile,
    ):
        """Add a run that changed last at `updated`, in seconds from the start, and is PROCESSED at `ends_at`."""
        world = self.world
        world.add(
            id=run_id,
            status=status,
            created_minutes=(self.time() - min(updated, -7200.0)) / 60,
            updated_minutes=(self.time() - updated) / 60,
            metadata={"prefect_hold": True} if held else metadata,
            source=source,
            processor=processor,
            file_name=file_name,
            plan=[] if ends_at is None else [(ends_at - self.time(), "PROCESSED")],
            output={"type": "invoice", "insights": []},
        )
        record = self.runs[run_id] = world.runs[run_id]
        record.cancel_mode, record.cancel_seconds = cancel_mode, cancel_seconds
        self.meanwhile[run_id] = Meanwhile(**{name: list(words) for name, words in meanwhile.items()})
        if gone:
            world.remove(record)

    def change(self, run_id, status, updated=None):
        """Give a run another status, changed last at `updated`, or now."""
        self.world.life.change(self.runs[run_id], status, self.now() if updated is None else at(updated))

    def time(self):
        """Seconds by the wall clock, which goes on while the machine sleeps."""
        return self.loop.time() + self.suspended

    def now(self):
        return at(self.time())

    def moment(self):
        return Moment.at(self.now(), self.loop.time())

    def find(self, run_id):
        """A run as it is now; None where Extend has none of this id."""
        self.world.tick()
        return self.world.runs.get(run_id)

    def text(self, run_id):
        return self.world.text(run_id)

    def client_run(self, run_id):
        """The run as ExtendClient reads it."""
        return Run.from_text(RunKind.CLASSIFY, self.text(run_id), self.now())

    def is_stale(self, run):
        # As the run says it: its times have milliseconds.
        changed = run.updated_at.replace(microsecond=run.updated_at.microsecond // 1000 * 1000)
        held = (run.metadata or {}).get("prefect_hold")
        return run.status == "PROCESSING" and self.now() - changed > timedelta(hours=1) and not held

    def is_ended(self, run_id):
        run = self.find(run_id)
        return run is not None and run.status in TERMINAL

    def next(self, run_id, what):
        """What happens to the next request: a word, a pair of seconds, or None."""
        words = getattr(self.meanwhile[run_id], what)
        return (words.pop(0) if words else None) or None

    def disturb(self, run_id, word):
        """Have the fault of a read change the run; what the read then fails with, if it does."""
        run = self.find(run_id)
        match word:
            case None:
                return None
            case _ if word in ERRORS:
                return ERRORS[word]
            case "gone" if run is not None:
                self.world.remove(run)
            case "hold" if run is not None and run.status not in TERMINAL:
                run.metadata = {"prefect_hold": True}
            case _ if run is not None and run.status not in TERMINAL:
                self.world.life.disturb(run, Trouble.parse(f"get:*:{word}"), self.now())
        return None


@dataclass
class Client:
    """ExtendClient's double, in one process: the calls that a sweep makes."""

    extend: Extend
    process: Process

    def now(self):
        return self.extend.moment()

    def _run(self, kind, text, asked_at):
        return replace(Run.from_text(kind, text, self.extend.now()), asked_at=asked_at)

    async def iter_pages(self, kind, *, status="PROCESSING", sort_by="updatedAt", sort_dir="asc", source=None, **_):
        extend, world, token = self.extend, self.extend.world, ""
        filters = (("source", source),) if source and world.behaviour.heeds_filters else ()
        query = Query(RunKind(kind), WORKSPACE, status, filters, sort_by, sort_dir == "desc", PAGE)
        while token is not None:
            asked_at = extend.moment()
            await self.process.step()
            world.tick()
            page = world.page(query, token)
            runs = [self._run(kind, to_text(world.listed(record)), asked_at) for record in page.records]
            yield Page(runs, unreadable=0, read_at=extend.now())
            token = page.token

    @asynccontextmanager
    async def reserve_cancel(self, run_id, kind, *, within):
        await self.process.step()
        wait = self.extend.paused_until - self.extend.loop.time()
        if wait > within:
            raise ERRORS["429"]
        await asyncio.sleep(max(wait, 0))

        async def check():
            return await self.get_run(run_id, kind)

        async def send(before_send, within):
            assert 0 <= within <= FRESH
            return await self.cancel_run(run_id, kind, before_send)

        yield SimpleNamespace(check=check, send=send)

    async def get_run(self, run_id, kind):
        extend, name = self.extend, self.process.name
        asked_at, asked = extend.moment(), extend.time()
        extend.reads[name][run_id] = "nothing"
        await self.process.step()
        before, after = extend.next(run_id, "holds") or (0, 0)
        await asyncio.sleep(before)
        error = extend.disturb(run_id, extend.next(run_id, "gets"))
        run = extend.find(run_id)
        if run is None and error is None:
            error = ERRORS["404"]
        if error is not None:
            extend.reads[name][run_id] = "404" if error is ERRORS["404"] else "nothing"
            raise error
        text = extend.world.read(run)
        said = "stale" if extend.is_stale(run) else run.status
        response = self._run(kind, text, asked_at)
        await asyncio.sleep(after)
        await self.process.step()
        extend.reads[name][run_id] = said
        extend.asked[name][run_id] = asked
        return response

    async def cancel_run(self, run_id, kind, before_send):
        match self.extend.next(run_id, "leaves"):
            case "connecting":
                await asyncio.sleep(25)
            case "stopped":
                self.extend.loop.virtual += 40
            case "suspended":
                self.extend.suspended += 300
        before_send()
        return await self._cancel(run_id, kind)

    async def _cancel(self, run_id, kind):
        extend, name = self.extend, self.process.name
        asked_at = extend.moment()
        self._watch(run_id)
        extend.posts[name][run_id] += 1
        extend.reads[name][run_id] = "posted"
        await self.process.step()
        word = extend.next(run_id, "cancels") or ""
        error = ERRORS.get(word.removesuffix("-after"))
        if word == "429":
            extend.posts[name][run_id] -= 1  # it was not carried out
            extend.turned_away[name][run_id] += 1
            extend.paused_until = extend.loop.time() + 40
        if error and not word.endswith("-after"):
            raise error
        extend.world.tick()
        try:
            text = extend.world.cancel(extend.world.find(RunKind(kind), WORKSPACE, run_id))
        except Fault as fault:
            raise error or ERRORS[str(fault.status)] from None
        extend.cancelled_by[run_id].add(name)
        response = self._run(kind, text, asked_at)
        await self.process.step()
        if error:
            raise error
        return response

    async def create_run(self, request, kind, *, before_send):
        extend, of = self.extend, request["metadata"][RESUBMIT_OF]
        word = extend.next(of, "creates") or ""
        await self.process.step()
        if word == "unsent":
            raise ERRORS[word]
        before_send()
        self._watch_create(of)
        await self.process.step()
        error = ERRORS.get(word.removesuffix("-after"))
        if error and not word.endswith("-after"):
            raise error
        world = extend.world
        world.tick()
        body, others = json.dumps(request).encode(), list(world.runs.values())
        try:
            facts = read_creation(RunKind(kind), body, others, world.behaviour)
        except Fault as fault:
            raise error or ERRORS[str(fault.status)] from None
        asked_at, text = extend.moment(), world.create(RunKind(kind), WORKSPACE, **facts)
        response = self._run(kind, text, asked_at)
        extend.successors[of].append(response.id)
        await self.process.step()
        if error:
            raise error
        return response

    def _watch_create(self, run_id):
        """The promises that hold at each create."""
        extend, name = self.extend, self.process.name
        run = extend.find(run_id)
        if run is None or not (run.status == "CANCELLED" or run.state.failure_reason == "ABORTED"):
            extend.violations.append(f"{name} replaces {run_id}, which is {run and run.status}")
        if not extend.cancelled_by[run_id]:
            extend.violations.append(f"{name} replaces {run_id}, which no sweep has cancelled")
        claims = [each.resubmit[run_id].state for each in extend.prefect.intents.values() if run_id in each.resubmit]
        if "sending" not in claims:
            extend.violations.append(f"{name} replaces {run_id} without a claim")

    def _watch(self, run_id):
        """The promises that hold at each cancel."""
        extend, name = self.extend, self.process.name
        if extend.reads[name].get(run_id) != "stale":
            extend.violations.append(f"{name} cancels {run_id} after reading {extend.reads[name].get(run_id)}")
        if (age := extend.time() - extend.asked[name].get(run_id, float("-inf"))) > FRESH:
            extend.violations.append(f"{name} cancels {run_id} on a read that was asked for {age:.1f} s ago")
        if extend.posts[name][run_id] >= 4:
            extend.violations.append(f"{name} cancels {run_id} for the fifth time")
        # A sweep on another machine does not look alive, so another may have adopted a run into its own intent.
        announced_by = {each.rule for each in extend.prefect.intents.values() if run_id in each.run_ids}
        if not announced_by or (extend.prefect.one_machine and name not in announced_by):
            extend.violations.append(f"{name} cancels {run_id} without a pending intent")
