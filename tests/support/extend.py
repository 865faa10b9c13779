"""An Extend in memory."""

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
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import FRESH, Moment, Run
from support.processes import Process

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMINAL = {"PROCESSED", "FAILED", "CANCELLED"}
ERRORS = {
    "lost": ExtendTransportError("the connection was lost"),
    "5xx": ExtendServerError("bad gateway", status=502),
    "odd": ExtendUnexpectedResponseError("not JSON", status=200),
    "302": ExtendUnexpectedResponseError("redirects", status=302),
    "400": ExtendRefusedError("only in progress", status=400),
    "409": ExtendRefusedError("conflict", status=409),
    "429": ExtendRateLimitError("too many", status=429),
    "404": ExtendNotFoundError("no such run", status=404),
    "401": ExtendAuthError("wrong key", status=401),
}


@dataclass
class Fake:
    """A run as the in-memory Extend keeps it.

    Attributes:
        cancel_mode: what an accepted cancel does: at_once, later, on_get, cancelling, aborted, finishes, never.
        cancel_troubles, get_troubles: one a call, in order; `-after` strikes when the call has taken effect.
        get_holds: for how long a read is held back, in order: before it is answered, and after.
        leave_troubles: what befalls a cancel before its bytes leave, in order: connecting (it takes 25 s), stopped (the
            process stands still for 40 s), suspended (the machine sleeps for five minutes), or nothing.
        ends_at: when it is PROCESSED by itself, in seconds.
    """

    id: str
    status: str = "PROCESSING"
    updated: float = -7200.0
    reason: str | None = None
    held: bool = False
    cancel_mode: str = "at_once"
    cancel_seconds: float = 2.0
    cancel_troubles: list = field(default_factory=list)
    get_troubles: list = field(default_factory=list)
    get_holds: list = field(default_factory=list)
    leave_troubles: list = field(default_factory=list)
    ends_at: float | None = None
    plan: tuple | None = None
    gets_left: int = 0
    list_lag: float = 0.0
    gone: bool = False
    acted: set = field(default_factory=set)
    before: list = field(default_factory=list)

    def become(self, now, status, reason=None):
        if self.status not in TERMINAL:
            self.before.append((now, self.status, self.updated))
            self.status, self.reason, self.updated = status, reason, now

    def tick(self, now):
        if self.plan and self.plan[0] <= now:
            self.become(self.plan[0], *self.plan[1:])
            self.plan = None
        if self.ends_at is not None and self.ends_at <= now:
            self.become(self.ends_at, "PROCESSED")

    def cancel(self, now, who):
        self.acted.add(who)
        match self.cancel_mode:
            case "later":
                self.plan = (now + self.cancel_seconds, "CANCELLED")
            case "on_get":
                self.gets_left = 3
            case "cancelling":
                self.become(now, "CANCELLING")
                self.plan = (now + self.cancel_seconds, "CANCELLED")
            case "aborted":
                self.become(now, "FAILED", "ABORTED")
            case "finishes":
                self.plan = (now + self.cancel_seconds, "PROCESSED")
            case "never":
                self.plan = self.ends_at = None
            case _:
                self.become(now, "CANCELLED")

    def text(self, status=None, updated=None):
        raw = {
            "id": self.id,
            "status": status or self.status,
            "failureReason": self.reason,
            "metadata": {"prefect_hold": True} if self.held else None,
            "createdAt": at(min(self.updated, -7200.0)).isoformat(),
            "updatedAt": at(self.updated if updated is None else updated).isoformat(),
            "output": {"type": "invoice", "insights": []},
        }
        return json.dumps(raw)


def at(seconds):
    return START + timedelta(seconds=seconds)


class Extend:
    """An Extend in memory, which watches that nobody breaks the promises."""

    def __init__(self, runs, loop):
        self.runs = {run.id: run for run in runs}
        self.loop = loop
        self.prefect = None
        self.violations = []
        self.posts = defaultdict(Counter)
        self.turned_away = defaultdict(Counter)
        self.reads = defaultdict(dict)
        self.asked = defaultdict(dict)
        self.suspended = 0.0
        self.paused_until = 0.0
        self.calm = False

    def time(self):
        """Seconds by the clock on the wall, which goes on while the machine sleeps."""
        return self.loop.time() + self.suspended

    def now(self):
        return at(self.time())

    def moment(self):
        return Moment(self.loop.time(), self.time())

    def find(self, run_id):
        run = self.runs.get(run_id) or Fake(run_id, gone=True)
        run.tick(self.time())
        return None if run.gone else run

    def stale(self, run):
        return run.status == "PROCESSING" and self.time() - run.updated > 3600 and not run.held


@dataclass
class Client:
    """Stands in for ExtendClient, in one process."""

    extend: Extend
    process: Process

    def now(self):
        return self.extend.moment()

    async def iter_pages(self, kind, *, status="PROCESSING", **_):
        asked_at = self.extend.moment()
        await self.process.step()
        now, runs = self.extend.time(), []
        for run_id in self.extend.runs:
            run = self.extend.find(run_id)
            if run is None:
                continue
            shown = next(((s, u) for when, s, u in run.before if now - when < run.list_lag), (run.status, run.updated))
            if shown[0] == status:
                runs.append(replace(Run.from_text(kind, run.text(*shown), self.extend.now()), asked_at=asked_at))
        runs.sort(key=lambda run: run.updated_at)
        for start in range(0, max(len(runs), 1), 5):
            yield Page(runs[start : start + 5], unreadable=0, read_at=self.extend.now())

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
        known = extend.runs.get(run_id) or Fake(run_id, gone=True)
        before, after = known.get_holds.pop(0) if known.get_holds and not extend.calm else (0, 0)
        await asyncio.sleep(before)
        trouble = known.get_troubles.pop(0) if known.get_troubles and not extend.calm else None
        match trouble:
            case "finish":
                known.become(extend.time(), "PROCESSED")
            case "touch" if known.status not in TERMINAL:
                known.updated = extend.time()
            case "hold" if known.status not in TERMINAL:
                known.held = True
            case "unknown":
                known.become(extend.time(), "QUARANTINED")
            case "gone":
                known.gone = True
            case "lost" | "5xx" | "odd" | "404":
                extend.reads[name][run_id] = "404" if trouble == "404" else "nothing"
                raise ERRORS[trouble]
        run = extend.find(run_id)
        if run is None:
            extend.reads[name][run_id] = "404"
            raise ERRORS["404"]
        if run.gets_left:
            run.gets_left -= 1
            if not run.gets_left:
                run.become(extend.time(), "CANCELLED")
        answer = replace(Run.from_text(kind, run.text(), extend.now()), asked_at=asked_at)
        may = extend.stale(run)
        await asyncio.sleep(after)
        await self.process.step()
        extend.reads[name][run_id] = "stale" if may else answer.status
        extend.asked[name][run_id] = asked
        return answer

    async def cancel_run(self, run_id, kind, before_send):
        known = self.extend.runs[run_id]
        match known.leave_troubles.pop(0) if known.leave_troubles and not self.extend.calm else "":
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
        known = extend.runs[run_id]
        trouble = known.cancel_troubles.pop(0) if known.cancel_troubles and not extend.calm else ""
        error = ERRORS.get(trouble.removesuffix("-after"))
        if trouble == "429":
            extend.posts[name][run_id] -= 1  # it was not carried out
            extend.turned_away[name][run_id] += 1
            extend.paused_until = extend.loop.time() + 40
        if error and not trouble.endswith("-after"):
            raise error
        run = extend.find(run_id)
        if run is None:
            raise ERRORS["404"]
        if run.status != "PROCESSING":
            raise error or ERRORS["400"]
        run.cancel(extend.time(), name)
        text, read_at = run.text(), extend.now()
        await self.process.step()
        if error:
            raise error
        return replace(Run.from_text(kind, text, read_at), asked_at=asked_at)

    def _watch(self, run_id):
        """The promises that hold at each cancel."""
        extend, name = self.extend, self.process.name
        if extend.reads[name].get(run_id) != "stale":
            extend.violations.append(f"{name} cancels {run_id} after reading {extend.reads[name].get(run_id)}")
        if (age := extend.time() - extend.asked[name].get(run_id, float("-inf"))) > FRESH:
            extend.violations.append(f"{name} cancels {run_id} on a read that was asked for {age:.1f} s ago")
        if extend.posts[name][run_id] >= 4:
            extend.violations.append(f"{name} cancels {run_id} for the fifth time")
        # A sweep on another machine does not look alive, so another may have adopted a run into an intent of its own.
        announced_by = {each.rule for each in extend.prefect.intents.values() if run_id in each.run_ids}
        if not announced_by or (extend.prefect.one_machine and name not in announced_by):
            extend.violations.append(f"{name} cancels {run_id} without a pending intent")
