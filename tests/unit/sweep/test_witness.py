"""A listing vouches for what a single read does not tell, and for an account that one run's answer accuses."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from prefect_extend_ai.client import Page
from prefect_extend_ai.errors import ExtendAuthError, ExtendPermissionError, ExtendServerError, ExtendTransportError
from prefect_extend_ai.runs import FRESH, Moment, Run, RunKind
from prefect_extend_ai.sandbox import Behaviour, World
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.rules.staleness import StalePolicy, skip_reason, skip_reason_when_named
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.witness import LISTINGS, RECENT, AccountWitness, ListingWitness
from support.in_process import client_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = StalePolicy()
UNDATED = [kind for kind in RunKind if not kind.dated]


def listed(number, *, hours=2.0, status="PROCESSING"):
    changed = (NOW - timedelta(hours=hours, seconds=-number)).isoformat()
    raw = {"id": f"wr_{number}", "status": status, "createdAt": changed, "updatedAt": changed}
    return Run.from_text("workflow", json.dumps(raw), NOW)


class Listings:
    """A scripted ExtendClient: lists what there is at that moment, a page of `size` each `seconds`."""

    def __init__(self, loop, runs, *, size=1000, seconds=0.1):
        self.loop, self.runs, self.size, self.seconds = loop, runs, size, seconds
        self.listings, self.pages, self.asked = 0, 0, []
        self.errors = []
        self.before_page = lambda _: None

    def now(self):
        return Moment(self.loop.time(), self.loop.time())

    async def iter_pages(self, kind, **options):
        self.listings += 1
        self.asked.append({"kind": kind} | options)
        start = 0
        while True:
            self.pages += 1
            asked_at = self.now()
            await asyncio.sleep(self.seconds)
            if self.errors:
                raise self.errors.pop(0)
            self.before_page(self.pages)
            page = self.runs[start : start + self.size]
            yield Page([replace(run, asked_at=asked_at) for run in page], unreadable=0, read_at=NOW)
            start += self.size
            if start >= len(self.runs):
                return


@pytest.fixture
def witness(runner):
    """Makes a witness of such runs; `.of` is what it lists from."""

    def make(runs, kind=RunKind.WORKFLOW, policy=POLICY, **options):
        of = Listings(runner.get_loop(), list(runs), **options)
        made = ListingWitness(of, kind, policy)
        made.of = of
        return made

    return make


async def looks(witness, *numbers):
    return await asyncio.gather(*(witness.find(Target.of(listed(number))) for number in numbers))


def test_scans_at_the_same_time_share_one_listing(runner, witness):
    who = witness(map(listed, range(500)))
    found = runner.run(looks(who, *range(40)))
    assert [run.id for run in found] == [f"wr_{number}" for number in range(40)]
    assert (who.of.listings, who.of.pages) == (1, 1)
    assert who.of.asked[0]["page_size"] == 1000


def test_what_was_listed_some_seconds_ago_is_listed_again(runner, witness):
    who = witness(map(listed, range(5)), seconds=0)

    async def story():
        for wait in (0, RECENT - 0.1, 0.2):
            await asyncio.sleep(wait)
            (run,) = await looks(who, 3)
            assert run.asked_at.age(who.of.now()) <= RECENT

    runner.run(story())
    assert who.of.listings == 2


def test_a_page_is_passed_on_when_it_comes_and_not_at_the_end(runner, witness):
    """A listing of fifty slow pages: the first is old by the time that the last one is read."""
    who = witness(map(listed, range(500)), kind=RunKind.PARSE, size=10, seconds=1)

    async def one(number):
        run = await who.find(Target.of(listed(number)))
        return who.of.loop.time(), run.asked_at.age(who.of.now())

    async def story():
        return await asyncio.gather(*(one(number) for number in (0, 250, 499)))

    found = runner.run(story())
    assert [moment for moment, _ in found] == pytest.approx([1, 26, 50])
    assert all(age <= 1 for _, age in found)
    assert who.of.listings == 1


def test_a_page_that_no_run_waits_for_is_not_read(runner, witness):
    who = witness(map(listed, range(500)), kind=RunKind.PARSE, size=10)
    runner.run(looks(who, 15, 3))
    assert who.of.pages == 2


def test_a_sorted_listing_ends_where_no_wanted_run_can_come(runner, witness):
    who = witness((listed(number) for number in range(500) if number != 15), size=10)
    assert runner.run(looks(who, 15)) == [None]
    assert who.of.pages == 2 * LISTINGS


def test_an_unsorted_listing_is_read_to_its_end(runner, witness):
    runs = [listed(number) for number in range(499, -1, -1) if number != 15]
    who = witness(runs, kind=RunKind.PARSE, size=100)
    assert runner.run(looks(who, 15)) == [None]
    assert who.of.pages == 5 * LISTINGS


def test_a_listing_that_ignores_the_order_hides_no_run(runner, witness):
    who = witness((listed(number) for number in range(499, -1, -1)), size=10)
    assert runner.run(looks(who, 3))[0].id == "wr_3"


def test_a_run_that_one_listing_skips_is_found_by_the_next(runner, witness):
    who = witness([listed(0), listed(2)])

    def grow(page):
        if page == 2:
            who.of.runs.append(listed(5))

    who.of.before_page = grow
    assert runner.run(looks(who, 5))[0].id == "wr_5"


def test_a_run_with_another_status_is_not_listed_as_in_progress(runner, witness):
    """As where the listing ignores what it was asked for."""
    who = witness([listed(0), listed(1, status="PROCESSED"), listed(2)])
    assert runner.run(looks(who, 1)) == [None]


def test_late_comers_are_served_by_this_listing_or_the_next(runner, witness):
    who = witness(map(listed, range(50)), kind=RunKind.PARSE, size=10, seconds=1)

    async def late(number):
        await asyncio.sleep(RECENT + 1.5)
        return (await looks(who, number))[0]

    async def story():
        return await asyncio.gather(looks(who, 45), late(48), late(1))

    ((last,), behind, before) = runner.run(story())
    assert [run.id for run in (last, behind, before)] == ["wr_45", "wr_48", "wr_1"]
    assert who.of.listings == 2


def test_a_failed_listing_fails_all_and_the_next_is_new(runner, witness):
    who = witness(map(listed, range(5)))
    who.of.errors = [ExtendServerError("down", status=503)]

    async def story():
        ended = await asyncio.gather(
            *(who.find(Target.of(listed(number))) for number in (1, 2)), return_exceptions=True
        )
        return ended, await looks(who, 1, 2)

    ended, found = runner.run(story())
    assert [type(each) for each in ended] == [ExtendServerError] * 2
    assert [run.id for run in found] == ["wr_1", "wr_2"]


def test_giving_up_delays_no_other_and_ends_the_listing(runner, witness):
    who = witness(map(listed, range(500)), kind=RunKind.PARSE, size=10, seconds=1)

    async def story():
        impatient = asyncio.create_task(who.find(Target.of(listed(499))))
        patient = asyncio.create_task(who.find(Target.of(listed(25))))
        await asyncio.sleep(1.5)
        impatient.cancel()
        found = await patient
        await asyncio.sleep(60)
        return found

    assert runner.run(story()).id == "wr_25"
    assert who.of.pages == 3


def test_the_filters_that_selected_the_runs_apply(runner, witness):
    policy = StalePolicy(batch_id="batch_1", file_name_contains="tax")
    who = witness([listed(1)], policy=policy)
    runner.run(looks(who, 1))
    asked = who.of.asked[0]
    assert (asked["batch_id"], asked["file_name_contains"], asked["source"]) == ("batch_1", "tax", None)


# What follows goes through the look-alike of Extend.


class Stage:
    """The look-alike, in process, with a clock that only a test moves."""

    def __init__(self, kind, **behaviour):
        self.kind = kind
        self.world = World(behaviour=Behaviour(**behaviour)) if behaviour else World()
        self.skewed = 0.0

    def client(self, **options):
        return client_of(self.world, wall_clock=lambda: time.time() + self.skewed, **options)

    async def target(self, client, run_id):
        """The run as a sweep has listed it."""
        async for page in client.iter_pages(self.kind, page_size=1000):
            for run in page.runs:
                if run.id == run_id:
                    return Target.of(run)
        raise AssertionError("not listed")

    async def cancel(self, client, target, **options):
        return await cancel_one(
            client,
            self.kind,
            target,
            recheck=options.pop("recheck", lambda run, shown: skip_reason(run, shown, 60, POLICY)),
            stop=Stop(),
            slot=asyncio.Semaphore(),
            confirm_seconds=5,
            **options,
        )


@pytest.mark.parametrize("kind", UNDATED)
async def test_a_run_that_changes_after_it_was_listed_is_spared(kind):
    stage = Stage(kind)
    run_id = stage.world.add(kind=kind, age_minutes=90)
    async with stage.client() as client:
        target = await stage.target(client, run_id)
        stage.world.life.touch(stage.world.runs[run_id], stage.world.now())
        settled = await stage.cancel(client, target, listing=ListingWitness(client, kind, POLICY))
    assert settled.cancellation.outcome is Outcome.SPARED
    assert settled.cancellation.reason == "it changed since it was listed and is no longer stale"
    assert stage.world.cancels(run_id) == 0


@pytest.mark.parametrize("kind", UNDATED)
async def test_a_run_that_is_still_listed_as_stale_is_cancelled(kind):
    stage = Stage(kind)
    run_id = stage.world.add(kind=kind, age_minutes=90)
    async with stage.client() as client:
        target = await stage.target(client, run_id)
        settled = await stage.cancel(client, target, listing=ListingWitness(client, kind, POLICY))
    assert (settled.cancellation.outcome, stage.world.cancels(run_id)) == (Outcome.CANCELLED, 1)


@pytest.mark.parametrize("kind", UNDATED)
async def test_a_run_that_has_ended_is_known_by_its_own_read(kind):
    stage = Stage(kind)
    run_id = stage.world.add(kind=kind, age_minutes=90)
    async with stage.client() as client:
        target = await stage.target(client, run_id)
        stage.world.life.change(stage.world.runs[run_id], "PROCESSED", stage.world.now())
        settled = await stage.cancel(client, target, listing=ListingWitness(client, kind, POLICY))
    assert (settled.cancellation.outcome, stage.world.cancels(run_id)) == (Outcome.FINISHED_FIRST, 0)


@pytest.mark.parametrize("kind", UNDATED)
async def test_no_cancel_leaves_on_an_old_listing(kind):
    stage = Stage(kind)
    run_id = stage.world.add(kind=kind, age_minutes=90)

    class Dawdling(ListingWitness):
        async def find(self, target):
            shown = await super().find(target)
            stage.skewed += FRESH + 1
            return shown

    async with stage.client() as client:
        target = await stage.target(client, run_id)
        settled = await stage.cancel(client, target, listing=Dawdling(client, kind, POLICY))
    assert (settled.cancellation.outcome, stage.world.cancels(run_id)) == (Outcome.ERROR, 0)
    assert "3 checks in a row came back too old" in settled.cancellation.reason


@pytest.mark.parametrize("kind", UNDATED)
async def test_a_run_that_was_named_needs_no_witness(kind):
    stage = Stage(kind)
    run_id = stage.world.add(kind=kind, age_minutes=1)
    async with stage.client() as client:
        settled = await stage.cancel(client, Target(run_id), recheck=lambda run, _: skip_reason_when_named(run, POLICY))
    assert settled.cancellation.outcome is Outcome.CANCELLED
    assert [entry.operation for entry in stage.world.journal] == ["get", "cancel"]


@pytest.mark.parametrize("kind", UNDATED)
async def test_a_listing_that_cannot_be_read_cancels_nothing(kind):
    stage = Stage(kind)
    run_id = stage.world.add(kind=kind, age_minutes=90)
    async with stage.client() as client:
        target = await stage.target(client, run_id)
        stage.world.troubles.add("list:*:400@1-")
        settled = await stage.cancel(client, target, listing=ListingWitness(client, kind, POLICY))
    assert (settled.cancellation.outcome, stage.world.cancels(run_id)) == (Outcome.ERROR, 0)
    assert settled.cancellation.reason.startswith("HTTP 400")


async def test_a_hundred_runs_need_a_handful_of_listings():
    kind = RunKind.WORKFLOW
    stage = Stage(kind)
    for _ in range(100):
        stage.world.add(kind=kind, age_minutes=90)
    async with stage.client() as client:
        pages = [page async for page in client.iter_pages(kind, page_size=1000)]
        targets = [Target.of(run) for page in pages for run in page.runs]
        before = len(stage.world.journal)
        witness = ListingWitness(client, kind, POLICY)
        slots = asyncio.Semaphore(10)

        async def one(target):
            async with slots:
                return await stage.cancel(client, target, listing=witness)

        settled = await asyncio.gather(*(one(target) for target in targets))
    assert {each.cancellation.outcome for each in settled} == {Outcome.CANCELLED}
    operations = [entry.operation for entry in stage.world.journal[before:]]
    assert operations.count("list") <= 20


# The account.


class Account:
    """A scripted ExtendClient: its listings end as given, and are counted."""

    def __init__(self, loop, *answers):
        self.loop, self.answers, self.asked = loop, list(answers), 0

    def now(self):
        return Moment(self.loop.time(), self.loop.time())

    async def iter_pages(self, *_, page_size):
        assert page_size == 1
        self.asked += 1
        await asyncio.sleep(0.1)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        yield Page([], unreadable=0, read_at=NOW)


def test_an_account_that_can_list_is_asked_once_for_all(runner):
    client = Account(runner.get_loop(), None)
    stop = Stop()
    account = AccountWitness(client, RunKind.CLASSIFY, stop)
    error = ExtendPermissionError("not yours", status=403)

    async def story():
        results = await asyncio.gather(*(account.is_at_fault(error) for _ in range(50)))
        await asyncio.sleep(RECENT + 1)
        return [*results, await account.is_at_fault(error)]

    assert runner.run(story()) == [False] * 51
    assert (client.asked, stop.reason) == (2, None)


@pytest.mark.parametrize(
    "listing", [ExtendAuthError("no", status=401), ExtendServerError("no", status=500), ExtendTransportError("no")]
)
def test_an_account_that_cannot_list_either_is_at_fault(runner, listing):
    client = Account(runner.get_loop(), listing)
    stop = Stop()
    account = AccountWitness(client, RunKind.CLASSIFY, stop)
    error = ExtendPermissionError("not yours", status=403)

    async def story():
        return await asyncio.gather(*(account.is_at_fault(error) for _ in range(50)))

    assert runner.run(story()) == [True] * 50
    assert client.asked == 1
    assert (stop.error, stop.reason) == (error, "the sweep was stopped by an error: HTTP 403 not yours")


def test_an_account_that_is_revoked_later_is_found_out(runner):
    client = Account(runner.get_loop(), None, ExtendAuthError("revoked", status=401))
    stop = Stop()
    account = AccountWitness(client, RunKind.CLASSIFY, stop)

    async def story():
        first = await account.is_at_fault(ExtendPermissionError("not yours", status=403))
        await asyncio.sleep(RECENT + 1)
        return first, await account.is_at_fault(ExtendAuthError("revoked", status=401))

    assert runner.run(story()) == (False, True)
    assert isinstance(stop.error, ExtendAuthError)
