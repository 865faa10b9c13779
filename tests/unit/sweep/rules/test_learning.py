"""Limits that a sweep learns: which runs they leave alone, what they cost, and a whole outage."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sandbox import World
from prefect_extend_ai.sweep import StaleRuns
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.rules.durations import Durations
from prefect_extend_ai.sweep.rules.learning import LEARNERS, learn
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.rules.staleness import Exempt
from prefect_extend_ai.sweep.scan import learned_scan
from prefect_extend_ai.sweep.stop import Stop
from support.in_process import START, SandboxAccount
from support.stopping import stops_after

EVERY = 15
"""Minutes from one sweep to the next."""
LIMIT = 60


class Account(SandboxAccount):
    """An account at a sandbox, and what its sweeps did."""

    def __init__(self, kind="classify", **options):
        super().__init__(kind, **options)
        self.cancelled = {}
        self.reports = []

    def history(self, minutes, processor="cl_slow", runs=30):
        """Runs that finished within the last hour and a half, each of which took so long."""
        for number in range(runs):
            ago = 5 + number * 85 / runs
            self.add("PROCESSED", updated_minutes=ago, created_minutes=ago + minutes, processor=processor)

    async def select(self, *, stop=None, **policy):
        """What the sweep selects, its report, and how its recheck rules on each run selected."""
        selector = StaleRuns(self.kind, LIMIT, StalePolicy(**policy))
        async with self.client() as client:
            selection = await selector.select(client, stop or Stop())
            rechecks = {
                target.run_id: selector.recheck(await client.get_run(target.run_id, self.kind), target)
                for target in selection.targets
            }
        return selection.targets, SweepReport(kind=self.kind, limit_minutes=LIMIT, **selection.facts), rechecks

    async def sweep(self, **policy):
        """What a sweep cancels, at the sandbox's door."""
        targets, report, rechecks = await self.select(**policy)
        self.reports.append(report)
        for target in targets if report.refusal is None else []:
            assert rechecks[target.run_id] is None
            self.world.cancel(self.world.get(target.run_id))
            self.cancelled[target.run_id] = self.world.now()


def ids(targets):
    return {target.run_id for target in targets}


async def test_a_slow_processors_healthy_runs_are_spared_not_its_stuck():
    account = Account()
    account.history(62)  # its limit becomes 95
    healthy = {account.add(age_minutes=age, processor="cl_slow") for age in (61, 80, 95)}
    stuck = {account.add(age_minutes=age, processor="cl_slow") for age in (96, 400)}
    other = {account.add(age_minutes=61, processor=processor) for processor in ("cl_fast", None)}
    targets, report, rechecks = await account.select()
    assert ids(targets) == stuck | other
    assert report.exempt == {Exempt.USUAL_FOR_PROCESSOR: len(healthy)}
    (learned,) = report.learned_limits
    assert (learned.processor, learned.minutes, learned.finished, learned.spared) == ("cl_slow", 95, 30, 3)
    assert learned.p99_minutes == 62
    limits = {target.run_id: target.limit for target in targets}
    assert limits == dict.fromkeys(stuck, Limit(95, LimitSource.LEARNED)) | dict.fromkeys(
        other, Limit(LIMIT, LimitSource.PERSON)
    )
    assert set(rechecks.values()) == {None}


async def test_the_recheck_rules_by_the_limit_that_was_learned():
    account = Account()
    account.history(62)
    account.add(age_minutes=200, processor="cl_slow")
    (target,), _, _ = await account.select()
    record = account.world.get(target.run_id)
    selector = StaleRuns(account.kind, LIMIT)
    for minutes, why in ((61, "usual for its processor"), (95, "usual for its processor"), (96, None)):
        account.world.life.touch(record, account.world.now() - timedelta(minutes=minutes))
        async with account.client() as client:
            found = selector.recheck(await client.get_run(target.run_id), target)
        assert (why in found) if why else found is None


@pytest.mark.parametrize("minutes", [41, 100, 160, 100_000])
async def test_a_learned_limit_is_four_times_the_sweeps_at_most(minutes):
    account = Account()
    account.history(minutes)
    runs = {age: account.add(age_minutes=age, processor="cl_slow") for age in (61, 64, 66, 240, 241)}
    targets, report, _ = await account.select()
    limit = min(-(-minutes * 3 // 10) * 5, 4 * LIMIT)
    assert report.learned_limits[0].minutes == limit
    assert ids(targets) == {run_id for age, run_id in runs.items() if age > limit}


@pytest.mark.parametrize(("runs", "minutes"), [(19, 100), (30, 40), (30, 5)])
async def test_too_few_runs_or_quick_ones_teach_nothing(runs, minutes):
    account = Account()
    account.history(minutes, runs=runs)
    account.add(age_minutes=61, processor="cl_slow")
    targets, report, _ = await account.select()
    assert len(targets) == 1
    assert report.learned_limits == []


@pytest.mark.parametrize("review", [{"reviewed": True}, {"edited": True}, {"reviewedAt": "2026-03-02T05:00:00Z"}])
async def test_runs_that_a_person_reviewed_teach_nothing(review):
    account = Account()
    for number in range(30):
        account.add("PROCESSED", updated_minutes=number, created_minutes=number + 600, processor="cl_slow", **review)
    account.add(age_minutes=61, processor="cl_slow")
    assert len((await account.select())[0]) == 1


async def test_what_the_policy_says_of_a_processor_wins():
    account = Account()
    account.history(100)
    run = account.add(age_minutes=70, processor="cl_slow", metadata={"prefect_max_minutes": 65})
    (target,), report, _ = await account.select(minutes_by_processor={"cl_slow": 62})
    assert target.run_id == run
    assert target.limit == Limit(65, LimitSource.RUN)
    assert report.learned_limits == []


async def test_the_total_limit_stays_hard():
    account = Account()
    account.history(100)
    hard = account.add(updated_minutes=70, created_minutes=121, processor="cl_slow")
    account.add(updated_minutes=70, created_minutes=119, processor="cl_slow")
    (target,), report, rechecks = await account.select(max_total_minutes=120)
    assert target.run_id == hard
    assert rechecks == {hard: None}
    assert report.exempt == {Exempt.USUAL_FOR_PROCESSOR: 1}


async def test_a_hold_is_told_as_a_hold_where_limits_are_learned():
    account = Account()
    account.history(100)
    account.add(age_minutes=70, processor="cl_slow", metadata={"prefect_hold": True})
    account.add(age_minutes=70, processor="cl_slow", metadata={"on_hold": True})
    targets, report, _ = await account.select()
    assert targets == []
    assert report.exempt == {Exempt.HELD: 1, Exempt.USUAL_FOR_PROCESSOR: 1}
    assert report.looks_held == []


async def test_a_runs_own_limit_spares_it_and_a_wrong_one_is_counted():
    account = Account()
    account.add(age_minutes=100, metadata={"prefect_max_minutes": 100})
    passed = account.add(age_minutes=100, metadata={"prefect_max_minutes": 98.5})
    odd = account.add(age_minutes=100, metadata={"prefect_max_minutes": "200"})
    account.add(age_minutes=59, metadata={"prefect_max_minutes": 10})
    young = account.add(age_minutes=5, metadata={"prefect_max_minutes": True})
    targets, report, _ = await account.select()
    assert {target.run_id: target.limit for target in targets} == {
        passed: Limit(99, LimitSource.RUN),
        odd: Limit(60, LimitSource.PERSON),
    }
    assert set(report.ignored_limits) == {odd, young}


@pytest.mark.parametrize(
    ("stale", "cancelled", "learning", "not_learning"),
    [
        (0, 0, ["PROCESSING"], ["PROCESSING"]),
        (0, 40, ["PROCESSING"], ["PROCESSING"]),
        (
            *(1, 0),
            ["PROCESSING", "PROCESSED", "CANCELLED", "FAILED", "CANCELLING"],
            ["PROCESSING", "CANCELLED", "FAILED", "CANCELLING"],
        ),
        (1, 40, ["PROCESSING", "PROCESSED", "CANCELLED"], ["PROCESSING", "CANCELLED", "PROCESSED"]),
        (20, 0, ["PROCESSING", "PROCESSED"], ["PROCESSING", "PROCESSED"]),
    ],
)
async def test_learning_costs_one_request_at_most_and_only_if_stale(stale, cancelled, learning, not_learning):
    account = Account()
    for number in range(stale):
        account.add(age_minutes=90 + number / 10, processor="cl_slow")
    for number in range(cancelled):
        account.add("CANCELLED", age_minutes=number / 10)
        account.add("CANCELLED", age_minutes=300 + number)
    account.history(62, runs=300)
    for number in range(300):
        account.add("FAILED", age_minutes=400 + number, failure_reason="INTERNAL_ERROR")
    await account.select()
    assert account.asked == learning
    account.world.journal.clear()
    await account.select(learn_limits=False)
    assert account.asked == not_learning
    assert len(learning) - len(not_learning) in (0, 1)


@pytest.mark.parametrize("kind", RunKind)
async def test_only_kinds_with_processors_and_sorted_listings_learn(kind):
    account = Account(kind)
    account.history(100)
    account.add(age_minutes=70, processor="cl_slow")
    targets, report, _ = await account.select(outage_guard=False)
    learns = kind in {RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.SPLIT}
    assert len(targets) == (0 if learns else 1)
    assert len(report.learned_limits) == learns
    assert account.asked == ["PROCESSING", *(["PROCESSED"] if learns else [])]
    assert (kind in LEARNERS) == learns


@pytest.mark.parametrize("fault", ["400", "403", "list", "empty"])
async def test_without_the_page_the_limits_of_the_policy_hold(fault):
    account = Account(troubles=[f"list:*:{fault}@2"])
    account.history(100)
    run = account.add(age_minutes=70, processor="cl_slow")
    targets, report, _ = await account.select(outage_guard=False)
    assert ids(targets) == {run}
    assert report.not_learned
    assert report.learned_limits == []


async def test_without_the_page_the_guard_asks_for_a_sign_of_life():
    account = Account(troubles=["list:*:400@2"])
    account.history(5)
    for number in range(20):
        account.add(age_minutes=70 + number)
    targets, report, _ = await account.select()
    assert len(targets) == 20
    assert report.refusal is None
    assert account.asked == ["PROCESSING", "PROCESSED", "PROCESSED"]


async def test_the_guards_count_by_the_limits_that_are_not_learned():
    account = Account()
    for number in range(30):
        account.add("PROCESSED", updated_minutes=90 + number, created_minutes=200 + number, processor="cl_slow")
    for number in range(20):
        account.add(age_minutes=70 + number, processor="cl_slow")
    _, report, _ = await account.select()
    assert "Extend seems to be down" in report.refusal
    assert report.exempt == {}
    _, report, _ = await account.select(refuse_above=19)
    assert "refuse_above" in report.refusal


async def test_more_than_refuse_above_learns_nothing():
    account = Account()
    for _ in range(3):
        account.add(age_minutes=90)
    await account.select(refuse_above=2)
    assert account.asked == ["PROCESSING"]


async def test_a_sweep_that_is_stopped_before_learning_selects_nothing():
    account = Account()
    account.history(62)
    account.add(age_minutes=70, processor="cl_slow")
    stop = Stop()
    account.permit = stops_after(1, account.world, stop)
    targets, report, _ = await account.select(stop=stop)
    assert targets == []
    assert "the sweep took too long" in report.trouble


async def test_what_would_be_selected_is_learned_as_a_sweep_learns():
    account = Account()
    account.history(62)
    account.add(age_minutes=70, processor="cl_slow")
    stuck = account.add(age_minutes=96, processor="cl_slow")
    kept = []
    async with account.client() as client:
        survey = await learned_scan(client, account.kind, LIMIT, StalePolicy(), keep=kept.append)
    assert ids(survey.stale) == {stuck}
    assert survey.exempt == {Exempt.USUAL_FOR_PROCESSOR: 1}
    assert account.asked == ["PROCESSING", "PROCESSED"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 300)), max_size=120), st.integers(1, 200))
def test_what_is_learned_is_the_suggestion_of_the_same_runs(history, limit):
    world = World(clock=lambda: START)
    runs = []
    for processor, minutes in history:
        run_id = world.add("classify", "PROCESSED", updated_minutes=0, created_minutes=minutes, processor=processor)
        runs.append(Run.from_text("classify", world.text(run_id), START))
    learned = learn([*runs, *runs], limit, StalePolicy())
    for processor in "abc":
        durations = Durations(timedelta(minutes=minutes) for name, minutes in history if name == processor)
        suggestion = durations.suggestion()
        if suggestion is None or not durations.exceeds(limit):
            assert processor not in learned
        else:
            assert learned[processor].minutes == min(suggestion, 4 * limit)
            assert limit < learned[processor].minutes
            assert learned[processor].finished == len(durations)


DOWN, UP, END = 4 * 60, 8 * 60, 12 * 60
"""Minutes from the start at which Extend goes down, is up again, and nobody looks any more."""
STUCK = range(DOWN + 60, UP - 60, 20)
"""When a run is submitted to each processor that never ends."""


async def outage(**policy):
    """Twelve hours of sweeps, and an outage of four: what is cancelled: by minute, processor, and why.

    Every five minutes each processor gets a run. Those of the slow one take 50 minutes, those of the fast one two.
    While Extend is down nothing finishes. When it is up again, what waited finishes within half an hour and its usual
    time, but for the runs that are stuck.
    """
    account = Account()
    rng = random.Random(11)
    takes = {"cl_slow": 50, "cl_fast": 2}
    for processor, minutes in takes.items():
        account.history(minutes, processor)
    stuck = set()
    for minute in range(0, END, 5):
        for processor, minutes in takes.items():
            if minute in STUCK:
                stuck.add(account.add(processor=processor))
                continue
            done = minute + minutes
            if done > DOWN and minute < UP:
                done = UP + rng.uniform(1, 30) + minutes
            account.add(processor=processor, plan=[((done - minute) * 60, "PROCESSED")])
        account.world.advance(minutes=5)
        if (minute + 5) % EVERY == 0:
            await account.sweep(**policy)
    cancelled = Counter(
        (minute_of(when), account.world.runs[run_id].processor.id, "stuck" if run_id in stuck else "waited")
        for run_id, when in account.cancelled.items()
    )
    return account, cancelled


def minute_of(moment):
    return round((moment - START) / timedelta(minutes=1))


async def test_an_outage_of_four_hours_is_played_through():
    account, cancelled = await outage()
    sweeps = {minute_of(report.looked_at): report for report in account.reports}
    assert cancelled == {
        # Until something has finished within the limit no longer, a few are cancelled: below the guard's twenty.
        (285, "cl_slow", "waited"): 3,
        (300, "cl_slow", "waited"): 3,
        (315, "cl_slow", "waited"): 3,
        (315, "cl_fast", "waited"): 3,
        # Extend is up, and the first runs have finished. Of the slow processor none has yet: its usual 75 minutes hold.
        (495, "cl_slow", "stuck"): 6,
        (495, "cl_slow", "waited"): 30,
        (510, "cl_slow", "waited"): 3,
        (510, "cl_fast", "waited"): 1,
        (525, "cl_slow", "waited"): 3,
        # Recent runs of the fast one all took long. What is stuck there is cancelled once it is four hours old.
        **{(minute, "cl_fast", "stuck"): 1 for minute in (555, 570, 585, 615, 630, 645)},
    }
    assert [minute for minute, report in sweeps.items() if report.refusal] == list(range(330, UP + 1, EVERY))
    learned = {minute: {each.processor: each.minutes for each in sweeps[minute].learned_limits} for minute in sweeps}
    assert learned[300] == {"cl_slow": 75}
    assert learned[495] == {"cl_slow": 75, "cl_fast": 4 * LIMIT}
    assert learned[600] == {"cl_slow": 160, "cl_fast": 4 * LIMIT}
    # Nothing is left, and nothing was ever spared for longer than four times the limit.
    assert account.world.stale(LIMIT) == []
    assert sum(minute > 645 for minute, _, _ in cancelled) == 0


async def test_in_an_outage_learning_loses_fewer_runs_and_no_stuck_one():
    (_, learning), (_, without) = await outage(), await outage(learn_limits=False)

    def lost(cancelled, how):
        return sum(count for (_, _, why), count in cancelled.items() if why == how)

    assert lost(learning, "stuck") == lost(without, "stuck") == 2 * len(STUCK)
    assert lost(learning, "waited") < lost(without, "waited")
