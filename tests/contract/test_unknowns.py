"""What the vendor does not document is a switch of the sandbox: under every pair of readings, the promises hold.

A sweep runs at the engine's level, in virtual time, against a sandbox in process. What it may do is judged by what
went over the wire and by the sandbox's own records, never by the client's or the engine's idea of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import httpx
import pytest
from allpairspy import AllPairs

from prefect_extend_ai.errors import ExtendAuthError, ExtendPermissionError, ExtendRefusedError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import API_KEY, WORKSPACE, Behaviour, CancelMode, World
from prefect_extend_ai.sweep import StaleRuns, Sweep, batches
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.report import Outcome, SweepReport
from prefect_extend_ai.sweep.rules.staleness import StalePolicy
from prefect_extend_ai.sweep.scan import guarded_scan
from support.in_process import client_of, to
from support.journals import MemoryJournal, Prefect
from support.processes import Process

START = datetime(2026, 3, 2, 12, tzinfo=UTC)

READINGS = {
    "cancel": list(get_args(CancelMode)),
    "errors": ["flat", "wrapped", "legacy", "text", "html", "empty"],
    "retry_after": ["integer", "absent", "fraction", "date", "zero", "reset"],
    "refusal_status": [400, 409, 422],
    "cancel_category": ["WRITE", "GET", "RUN"],
    "refusal_code": ["INVALID_REQUEST", "RUN_NOT_CANCELLABLE"],
    "cancel_gets": [2, 5],
    "cancel_seconds": [2, 20],
    "empty_status": [200, 204],
    "second_cancel": ["refused", "no_op"],
    "pending_cancellable": [False, True],
    "cancel_moves_updated_at": [True, False],
    "heartbeat_seconds": [None, 10],
    "list_lag_seconds": [0, 5],
    "token_seconds": [None, 60],
    "largest_page": [None, 1, 3],
    "sorts": [True, False],
    "paging": ["cursor", "offset"],
    "always_dated": [False, True],
    "nulls": [True, False],
    "fractions": [True, False],
    "date_ahead_minutes": [0, 120],
}
"""Each switch that a sweep can notice, and what it is set to."""
CREATES = {"create_seconds", "reuses_files", "keeps_version", "metadata_bytes"}
"""Switches of creates, of which a sweep makes none; `test_resubmission.py` tries them."""
APART = {"file_name_case", "heeds_filters", "created_run_seconds", "no_workspace_status"} | CREATES
"""Switches without effect on a sweep without a filter; they have separate tests."""
AROUND = {"rate": [None, 15], "max_total_minutes": [None, 240]}
"""What else is combined with them: the sandbox's rate limit, and a limit by creation."""

MATRIX = READINGS | AROUND
PAIRWISE = [dict(zip(MATRIX, row, strict=True)) for row in AllPairs(list(MATRIX.values()))]


class Wire(httpx.AsyncBaseTransport):
    """The way to the sandbox, which writes down every cancel that its rules do not allow."""

    def __init__(self, stage):
        self.stage = stage
        self.inner = to(stage.world)
        self.fresh = {}
        self.violations = []
        self.posts = Counter()

    async def handle_async_request(self, request):
        run_id = request.url.path.split("/")[2] if request.url.path.count("/") > 1 else None
        if request.method == "POST":
            self.posts[run_id] += 1
            if self.fresh.pop(run_id, None) is not True:
                self.violations.append(f"{run_id} is cancelled without a fresh read that calls for it")
            if not self.stage.is_announced(run_id):
                self.violations.append(f"{run_id} is cancelled without an open note")
        response = await self.inner.handle_async_request(request)
        if request.method == "POST" and response.status_code == 429:
            # Throttled: the same request may be sent again.
            self.posts[run_id] -= 1
            self.fresh[run_id] = True
        if request.method == "GET" and run_id:
            body = await response.aread()
            record = self.stage.world.get(run_id)
            says = json.loads(body)["status"] if response.status_code == 200 else None
            self.fresh[run_id] = says == "PROCESSING" and self.stage.is_stale(record)
        return response


class Stage:
    """A sandbox that follows one combination of readings, a sweep's client, and a journal that outlives it."""

    def __init__(self, loop, kind, combination=None, **world):
        given = dict(combination or {})
        rate = given.pop("rate", None)
        total = given.pop("max_total_minutes", None)
        self.loop, self.kind, self.total = loop, RunKind(kind), total
        self.policy = StalePolicy(max_total_minutes=total)
        self.world = World(
            clock=self.now, behaviour=Behaviour(**given), requests_per_second=rate, sleep=asyncio.sleep, **world
        )
        self.prefect = Prefect()
        self.process = Process("sweep")
        scope = Scope(kind=self.kind, api_url="https://api.extend.ai")
        self.journal = MemoryJournal(self.prefect, self.process, now=self.now, scope=scope)
        self.wire = Wire(self)

    def now(self):
        return START + timedelta(seconds=self.loop.time())

    def is_stale(self, record):
        now = self.world.now()
        old = now - record.updated_at > timedelta(minutes=60)
        old = old or (self.total is not None and now - record.created_at > timedelta(minutes=self.total))
        return record.status == "PROCESSING" and old and not (record.metadata or {}).get("prefect_hold")

    def is_announced(self, run_id):
        return any(run_id in open_ for open_ in self.prefect.open_runs())

    def client(self, **options):
        given = {"requests_per_second": 50, "wall_clock": lambda: self.world.now().timestamp()}
        return client_of(self.world, http_transport=self.wire, **given, **options)

    async def sweep(self):
        """What the flow does, without Prefect."""
        async with asyncio.timeout(3600), self.client() as client:
            sweep = Sweep(
                client,
                self.journal,
                StaleRuns(self.kind, 60, self.policy),
            )
            settled = await sweep.recover()
            survey = await guarded_scan(client, self.kind, 60, self.policy)
            assert survey.refusal is None
            assert sum(survey.exempt.values()) + len(survey.stale) == survey.listed
            parts = sweep.divide(survey.stale)
            done = [each for batch in batches(parts.to_ask) for each in await sweep.cancel_batch(batch)]
            done += parts.deferred
            await sweep.finish()
            assert sweep.stop.error is None
            return SimpleNamespace(settled=settled, cancellations=done, posts=Counter(self.wire.posts))


def populate(world, kind):
    """A little of everything; the ids by what is the matter with each run."""
    add = world.add
    refused = str(world.behaviour.refusal_status)
    runs = SimpleNamespace(
        stale=[add(kind, age_minutes=minutes) for minutes in (61, 90, 90, 200)],
        renamed=add(kind, age_minutes=70, id="0dd-Id_of-another~form"),
        held=add(kind, age_minutes=90, metadata={"prefect_hold": "yes"}),
        refused=add(kind, age_minutes=95),
        foreign=add(kind, age_minutes=96),
        finished=add(kind, age_minutes=97),
        unknown=add(kind, age_minutes=98),
        lost=add(kind, age_minutes=99),
        lost_after=add(kind, age_minutes=99),
        touched=add(kind, updated_minutes=20, created_minutes=300),
        young=[add(kind, age_minutes=10, plan=[(600, "PROCESSED")]), add(kind, age_minutes=50)],
        undated=add(kind, age_minutes=90, updatedAt=None),
        pending=add(kind, "PENDING", age_minutes=300),
        others=[add(kind, status, age_minutes=5) for status in ("PROCESSED", "FAILED", "CANCELLED", "QUARANTINED")],
    )
    world.troubles.add(
        f"cancel:{runs.refused}:{refused}@1-",
        f"get:{runs.foreign}:status=CANCELLED",
        f"get:{runs.finished}:finish",
        f"get:{runs.unknown}:status=QUARANTINED",
        f"cancel:{runs.lost}:reset",
        f"cancel:{runs.lost_after}:502-after",
    )
    return runs


TRUE = {
    Outcome.CANCELLED: lambda run: run.cancels and (run.status == "CANCELLED" or run.state.failure_reason),
    Outcome.ALREADY_CANCELLED: lambda run: not run.cancels and run.status == "CANCELLED",
    Outcome.FINISHED_FIRST: lambda run: run.status == "PROCESSED",
    Outcome.SPARED: lambda run: not run.cancels,
    Outcome.DEFERRED: lambda run: run.status == "PROCESSING",
    Outcome.REFUSED: lambda run: not run.cancels and run.status == "PROCESSING",
    Outcome.UNCONFIRMED: lambda run: run.cancels and run.status == "PROCESSING",
}
"""When an outcome is true of a run as the sandbox has it."""


def check(stage, runs, swept):
    """The promises, after a sweep."""
    world, done = stage.world, swept.cancellations
    assert stage.wire.violations == []
    assert [each for each in done if not TRUE[each.outcome](world.get(each.run_id))] == []
    assert sum(SweepReport().with_cancellations(done).counts.values()) == len({each.run_id for each in done})
    for run_id in [runs.held, runs.undated, runs.pending, *runs.young, *runs.others]:
        assert not world.cancels(run_id)
        assert not stage.wire.posts[run_id]
    assert max(swept.posts.values(), default=0) <= 4


@pytest.mark.sampled(7)
@pytest.mark.parametrize("number", range(len(PAIRWISE)))
def test_the_promises_hold_under_every_pair_of_assumptions(runner, kind, number):
    stage = Stage(runner.get_loop(), kind, PAIRWISE[number])
    world = stage.world
    runs = populate(world, kind)
    meant = {record.id for record in world.runs.values() if stage.is_stale(record)} - {runs.undated}
    held = {runs.held} if kind is RunKind.WORKFLOW else set()  # its listing does not show metadata
    first = runner.run(stage.sweep())
    check(stage, runs, first)
    assert {each.run_id for each in first.cancellations} == meant | held
    assert (runs.touched in meant) == (stage.total is not None)
    outcomes = {each.run_id: each.outcome for each in first.cancellations}
    assert outcomes[runs.refused] is Outcome.REFUSED
    assert outcomes[runs.foreign] is Outcome.ALREADY_CANCELLED
    assert outcomes[runs.finished] is Outcome.FINISHED_FIRST
    assert outcomes[runs.unknown] is Outcome.SPARED
    expected = {"finishes": Outcome.FINISHED_FIRST, "never": Outcome.UNCONFIRMED}
    plain = expected.get(world.behaviour.cancel, Outcome.CANCELLED)
    assert {outcomes[run_id] for run_id in [*runs.stale, runs.renamed, runs.lost, runs.lost_after]} == {plain}

    world.advance(minutes=2)
    second = runner.run(stage.sweep())
    check(stage, runs, second)
    cancelled = [record for record in world.runs.values() if record.cancels and record.status in kind.terminal]
    assert len(cancelled) >= len(runs.stale) * (plain is not Outcome.UNCONFIRMED)
    for record in cancelled:
        assert set(stage.prefect.texts(record.id)) == {world.text(record.id)}
    pending = {run_id for open_ in stage.prefect.open_runs() for run_id in open_}
    asked = {record.id for record in world.runs.values() if record.cancels} | {runs.refused}
    assert pending == asked - {record.id for record in cancelled}


def test_every_pair_of_assumptions_and_every_switch_is_tried():
    assert READINGS.keys() | APART == Behaviour.model_fields.keys()
    for one, other in itertools.combinations(MATRIX, 2):
        tried = {(row[one], row[other]) for row in PAIRWISE}
        assert tried == set(itertools.product(MATRIX[one], MATRIX[other]))
    for name, values in READINGS.items():
        assert Behaviour.model_fields[name].default in values
        assert len(values) >= 2


def test_the_page_of_unknowns_names_every_switch_and_real_tests():
    page = (Path(__file__).parents[2] / "docs" / "api-unknowns.md").read_text()
    named = set(re.findall(r"`([a-z_]+)(?:=[a-z_]+)?`", page))
    assert READINGS.keys() | APART - {"created_run_seconds"} <= named
    assert [name for name in named if name.startswith("test_") and name not in globals()] == []


@pytest.fixture
def staged(runner):
    """Makes stages, and runs what is to be run on them."""

    def on(kind=RunKind.CLASSIFY, combination=None, **world):
        return Stage(runner.get_loop(), kind, combination, **world)

    return SimpleNamespace(on=on, run=runner.run)


def test_a_page_token_that_expires_too_soon_cancels_nothing(staged, kind):
    stage = staged.on(kind, {"token_seconds": 0.001, "largest_page": 1})
    populate(stage.world, kind)
    with pytest.raises(ExtendRefusedError, match="expired"):
        staged.run(stage.sweep())
    assert not stage.wire.posts
    assert stage.prefect.intents == {}


@pytest.mark.parametrize(("heeds_case", "found"), [(True, 1), (False, 2)])
def test_a_file_name_filter_keeps_to_such_files_in_any_case(staged, kind, heeds_case, found):
    stage = staged.on(kind, {"file_name_case": heeds_case})
    stage.policy = StalePolicy(file_name_contains="Odd")
    named = [stage.world.add(kind, age_minutes=90, file_name=name) for name in ("Odd one.pdf", "an odd one.pdf")]
    stage.world.add(kind, age_minutes=90, file_name="another.pdf")
    swept = staged.run(stage.sweep())
    assert {each.run_id for each in swept.cancellations} == set(named[:found])


ORIGINS = {
    "source": [{"source": "API"}, {"source": "STUDIO"}],
    "batch_id": [{"batch_id": "bpr_1"}, {"batch_id": "bpr_2"}],
    "file_name_contains": [{"file_name": "API.pdf"}, {"file_name": "other.pdf"}],
}


@pytest.mark.parametrize("name", ORIGINS)
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("nulls", [True, False])
def test_an_ignored_filter_cancels_nobody_elses_runs(staged, kind, name, applied, nulls):
    if name not in kind.filters:
        return
    stage = staged.on(kind, {"heeds_filters": applied, "nulls": nulls})
    policy = StalePolicy(**{name: "bpr_1" if name == "batch_id" else "API"})
    mine, other = ORIGINS[name]
    ours = [stage.world.add(kind, age_minutes=90 + number, **mine) for number in range(2)]
    for number in range(2):
        stage.world.add(kind, age_minutes=95 + number, **other)

    async def look():
        async with stage.client() as client:
            return await guarded_scan(client, kind, 60, policy)

    survey = staged.run(look())
    if applied or name == "file_name_contains":
        assert (survey.refusal, {target.run_id for target in survey.stale}) == (None, set(ours))
    else:
        assert survey.refusal.startswith(f"Extend's listing ignores {name}")


def test_a_date_that_is_behind_makes_runs_younger_only(staged, kind):
    stage = staged.on(kind, {"date_ahead_minutes": -120})
    old = stage.world.add(kind, age_minutes=200)
    stage.world.add(kind, age_minutes=90)
    assert {each.run_id for each in staged.run(stage.sweep()).cancellations} == {old}


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_missing_workspace_is_named_whatever_the_response(staged, status):
    stage = staged.on(combination={"no_workspace_status": status}, keys={API_KEY: None})
    errors = (ExtendRefusedError, ExtendAuthError, ExtendPermissionError)
    with pytest.raises(errors, match="an organization's API key also needs a workspace id in the credentials"):
        staged.run(stage.sweep())
    named = staged.on(combination={"no_workspace_status": status}, keys={API_KEY: None})
    run_id = named.world.add(age_minutes=90)
    named.client = lambda: Stage.client(named, workspace_id=WORKSPACE)
    assert [each.run_id for each in staged.run(named.sweep()).cancellations] == [run_id]


@pytest.mark.parametrize("cancellable", [False, True])
def test_a_pending_run_is_left_alone_even_if_cancellable(staged, kind, cancellable):
    stage = staged.on(kind, {"pending_cancellable": cancellable})
    run_id = stage.world.add(kind, "PENDING", age_minutes=600)
    assert staged.run(stage.sweep()).cancellations == []
    assert stage.world.get(run_id).status == "PENDING"


@pytest.mark.parametrize("mode", get_args(CancelMode))
def test_a_sweep_ends_soon_after_its_deadline(staged, mode):
    stage = staged.on(combination={"cancel": mode, "cancel_seconds": 3000})
    stage.world.add(age_minutes=90)
    staged.run(stage.sweep())
    assert stage.loop.time() < 90


def test_a_long_run_that_keeps_changing_needs_a_total_limit(staged):
    for total, taken in [(None, False), (180, True)]:
        stage = staged.on(combination={"heartbeat_seconds": 30, "max_total_minutes": total})
        run_id = stage.world.add(plan=[(86_400, "PROCESSED")])
        stage.world.advance(minutes=200)
        staged.run(stage.sweep())
        assert (stage.world.get(run_id).status == "CANCELLED") is taken


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("undated_kind", ["parse", "workflow"])
def test_a_change_after_the_listing_spares_a_run_dated_or_not(staged, undated_kind, dated):
    stage = staged.on(undated_kind, {"always_dated": dated})
    run_id = stage.world.add(undated_kind, age_minutes=90)
    # It changes between the listing and its check: a dated read tells, and else the listing that is asked again.
    stage.world.troubles.add(f"get:{run_id}:touch")
    (cancellation,) = staged.run(stage.sweep()).cancellations
    assert cancellation.outcome is Outcome.SPARED
