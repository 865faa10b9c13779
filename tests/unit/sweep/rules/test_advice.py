"""What an account's history says of limits: held against a plain reading of the same runs."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendInputError, ExtendServerError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sandbox import Behaviour, World
from prefect_extend_ai.sandbox.lifetimes import Speed
from prefect_extend_ai.sweep.rules.advice import advice_from, advise, percent
from prefect_extend_ai.sweep.rules.learning import learn
from prefect_extend_ai.sweep.rules.past import PastRuns
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from support.in_process import client_of

NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
LIMITS = [15, 30, 60, 120, 240]


def a_run(run_id, status="PROCESSED", minutes=10.0, ago=0.0, processor="cl_a", **fields):
    facts = {
        "id": run_id,
        "status": status,
        "classifier": {"id": processor} if processor else None,
        "createdAt": (NOW - timedelta(minutes=ago + minutes)).isoformat(),
        "updatedAt": (NOW - timedelta(minutes=ago)).isoformat(),
    }
    return Run.from_text("classify", json.dumps(facts | fields), NOW)


def advice_on(runs, limit=60, **policy):
    past = PastRuns(RunKind.CLASSIFY)
    for run in runs:
        past.see(run, NOW)
    return advice_from(past, limit, StalePolicy(**policy))


async def advise_on(world, kind="classify", **options):
    async with client_of(world, wall_clock=lambda: world.now().timestamp()) as client:
        return await advise(client, RunKind(kind), **options)


def still(**options):
    return World(clock=lambda: NOW, **options)


@given(st.integers(0, 2**32))
def test_advice_is_what_counting_by_hand_says(seed):
    rng = random.Random(seed)
    runs = [
        a_run(
            f"clr_{number}",
            rng.choice(["PROCESSED"] * 30 + ["FAILED", "CANCELLED", "PROCESSING"]),
            minutes=round(rng.lognormvariate(3, 1), 2),
            processor=rng.choice(["cl_a", "cl_b", None]),
            reviewed=rng.random() < 0.05,
        )
        for number in range(rng.randrange(300))
    ]
    limit = rng.choice([*LIMITS, 45])
    advice = advice_on([*runs, *runs[:5]], limit)
    for each in [*advice.processors, advice.all]:
        mine = [run for run in runs if each is advice.all or run.processor_id == each.processor]
        took = sorted(
            (run.updated_at - run.created_at) / timedelta(minutes=1)
            for run in mine
            if run.status == "PROCESSED" and not run.was_reviewed
        )
        cancelled = sum(run.status == "CANCELLED" for run in mine)
        ended = sum(run.status != "PROCESSING" for run in mine)
        unknown = cancelled * 100 > ended
        assert each.finished == len(took)
        assert each.cancelled == cancelled
        assert each.failed == sum(run.status == "FAILED" for run in mine)
        assert each.in_progress == len(mine) - ended
        assert each.tail_unknown == unknown
        for minutes, count in each.would_have_cancelled.items():
            known = not unknown or minutes < limit
            assert count == (sum(span > minutes for span in took) if known else None)
        assert set(each.would_have_cancelled) == {*LIMITS, limit}
        if unknown or not took:
            assert each.suggested_minutes is each.longest_minutes is each.p99_minutes is None
            continue
        assert each.p99_minutes == pytest.approx(took[math.ceil(len(took) * 0.99) - 1], abs=0.001)
        assert each.longest_minutes == pytest.approx(took[-1], abs=0.001)
        assert (each.suggested_minutes is None) == (len(took) < 20)
    assert sum(each.finished for each in advice.processors) == advice.all.finished


@given(st.integers(0, 2**32), st.integers(5, 120))
def test_advice_and_what_a_sweep_learns_never_disagree(seed, limit):
    rng = random.Random(seed)
    speeds = {name: rng.uniform(1, 60) for name in ("cl_a", "cl_b", "cl_c")}
    runs = [
        a_run(f"clr_{number}", minutes=speeds[name] * rng.lognormvariate(0, 0.5), processor=name)
        for number in range(150)
        for name in [rng.choice([*speeds])]
    ]
    learned = learn(runs, limit, StalePolicy())
    for each in advice_on(runs, limit).processors:
        if each.processor in learned:
            assert learned[each.processor].minutes == min(each.suggested_minutes, 4 * limit)
            assert learned[each.processor].p99_minutes == each.p99_minutes
            assert each.suggested_minutes > limit
        elif each.finished >= 20:
            assert each.p99_minutes * 1.5 <= limit + 0.01


def test_more_than_one_in_a_hundred_cancelled_is_unknown():
    finished = [a_run(f"clr_{n}", minutes=20) for n in range(99)]
    one = advice_on([*finished, a_run("clr_x", "CANCELLED", 70)]).all
    assert (one.tail_unknown, one.suggested_minutes) == (False, 30)
    two = advice_on([*finished, a_run("clr_x", "CANCELLED", 70), a_run("clr_y", "FAILED", 70, failureReason="ABORTED")])
    assert two.all.tail_unknown
    assert two.all.cancelled == 2
    assert two.all.would_have_cancelled == {15: 99, 30: 0, 60: None, 120: None, 240: None}
    assert (two.all.median_minutes, two.all.p95_minutes, two.all.p99_minutes) == (20, 20, None)
    assert "is unknown: 2 % of the classify runs were cancelled" in two.headline
    assert two.minutes_by_processor == {}


def test_each_processor_is_judged_by_its_own_limit():
    runs = [a_run(f"clr_{n}", minutes=90, processor=f"cl_{'ab'[n % 2]}") for n in range(60)]
    advice = advice_on(runs, minutes_by_processor={"cl_a": 120})
    assert {each.processor: (each.limit_minutes, each.would_have_cancelled_now) for each in advice.processors} == {
        "cl_a": (120, 0),
        "cl_b": (60, 30),
    }
    assert advice.all.would_have_cancelled_now == 30
    assert advice.all.would_have_cancelled[60] == 60
    assert advice.headline == "Your limits would have cancelled 30 of the last 60 healthy classify runs (50 %)"
    assert advice.minutes_by_processor == {"cl_a": 135, "cl_b": 135}


@pytest.mark.parametrize(
    ("runs", "headline"),
    [
        (0, "No classify run has finished: nothing can be said of limits"),
        (1, "Only 1 classify run finished: too few to suggest a limit"),
        (19, "Only 19 classify runs finished: too few to suggest a limit"),
        (20, "A limit of 60 minutes would have cancelled none of the last 20 healthy classify runs"),
    ],
)
def test_few_runs_give_no_suggestion_and_say_so(runs, headline):
    advice = advice_on(a_run(f"clr_{n}") for n in range(runs))
    assert advice.headline == headline
    assert advice.all.suggested_minutes == (15 if runs >= 20 else None)
    assert advice.all.has_too_few == (runs < 20)


@pytest.mark.parametrize(("part", "shown"), [(0, "0 %"), (12, "0.24 %"), (5000, "100 %"), (1, "0.02 %"), (499, "10 %")])
def test_a_share_is_short_and_never_nothing(part, shown):
    assert percent(part, 5000) == shown


@pytest.mark.parametrize("kind", RunKind)
async def test_each_kind_is_read_as_it_can_be_listed(kind):
    world = still()
    for number in range(30):
        world.add(kind, "PROCESSED", updated_minutes=number, created_minutes=number + 30, processor="cl_a")
    world.add(kind, age_minutes=5)
    advice = await advise_on(world, kind)
    assert advice.all.finished == 30
    assert advice.all.suggested_minutes == 45
    assert advice.all.in_progress == 1
    assert advice.read_at == NOW
    assert [each.processor for each in advice.processors if each.finished] == [
        None if kind.processor is None else "cl_a"
    ]


async def test_three_processors_of_known_distributions_are_told_apart():
    world = still()
    world.live(runs=6000, speeds=[Speed(4, 0.3), Speed(10, 0.5), Speed(40, 0.4)])
    advice = await advise_on(world)
    medians = sorted(each.median_minutes for each in advice.processors)
    assert medians == [pytest.approx(4, rel=0.1), pytest.approx(10, rel=0.1), pytest.approx(40, rel=0.1)]
    for each, (median, spread) in zip(
        sorted(advice.processors, key=lambda each: each.median_minutes), [(4, 0.3), (10, 0.5), (40, 0.4)], strict=True
    ):
        # The 99th percentile of a log-normal distribution.
        assert each.p99_minutes == pytest.approx(median * math.exp(2.326 * spread), rel=0.2)
        assert each.p99_minutes * 1.5 <= each.suggested_minutes < each.p99_minutes * 1.5 + 15


async def test_the_same_time_is_looked_at_for_all_that_ended():
    world = still()
    for number in range(3000):
        world.add(status="PROCESSED", updated_minutes=number, created_minutes=number + 5)
    for minutes in (10, 1400, 1600, 2900):
        world.add(status="FAILED", failure_reason="INTERNAL_ERROR", age_minutes=minutes)
        world.add(status="CANCELLED", age_minutes=minutes)
    advice = await advise_on(world, max_runs=1500)
    assert (advice.all.finished, advice.all.failed, advice.all.cancelled) == (1500, 2, 2)
    assert advice.since == NOW - timedelta(minutes=1499)
    assert advice.all.ages["failed"].longest_minutes == 0
    everything = await advise_on(world)
    assert (everything.all.finished, everything.all.failed, everything.all.cancelled) == (3000, 4, 4)
    assert everything.since is None


async def test_pages_are_as_large_as_extend_gives_them():
    world = still()
    for number in range(2500):
        world.add(status="PROCESSED", age_minutes=number)
    await advise_on(world)
    sizes = [httpx.QueryParams(entry.query)["maxPageSize"] for entry in world.journal]
    assert sizes == ["1000"] * 6
    world.journal.clear()
    await advise_on(world, max_runs=50)
    assert [httpx.QueryParams(entry.query)["maxPageSize"] for entry in world.journal] == ["50"] * 4
    world.behaviour = Behaviour(largest_page=100)
    assert (await advise_on(world, max_runs=950)).all.finished == 950


async def test_a_page_that_is_too_large_is_asked_for_smaller():
    world = still(troubles=["list:*:400@1"])
    for number in range(150):
        world.add(status="PROCESSED", age_minutes=number)
    assert (await advise_on(world)).all.finished == 150
    assert [httpx.QueryParams(entry.query)["maxPageSize"] for entry in world.journal][:3] == ["1000", "100", "100"]


async def test_a_status_that_is_not_listed_is_told_of():
    world = still(troubles=["list:parse:400@2-3"])
    for number in range(30):
        world.add("parse", "PROCESSED", updated_minutes=number, created_minutes=number + 30)
    advice = await advise_on(world, "parse")
    assert advice.not_listed == ["CANCELLED"]
    assert advice.all.finished == 30


async def test_finished_runs_that_cannot_be_listed_are_an_error():
    with stamina.set_testing(True, attempts=100, cap=True), pytest.raises(ExtendServerError):
        await advise_on(still(troubles=["list:*:500@1-"]))


@pytest.mark.parametrize(
    "options",
    [{"max_runs": 0}, {"max_runs": 100_001}, {"max_processing_minutes": 0}, {"max_processing_minutes": 10**9}],
)
async def test_bad_input_fails_before_any_request(options):
    world = still()
    with pytest.raises(ExtendInputError):
        await advise_on(world, **options)
    assert world.journal == []


def test_the_json_has_the_names_that_scripts_read():
    advice = advice_on([*(a_run(f"clr_{n}") for n in range(30)), a_run("clr_x", processor=None)]).as_json()
    assert {"kind", "read_at", "processors", "all"} <= set(advice)
    names = {"finished", "in_progress", "median_minutes", "p95_minutes", "p99_minutes", "longest_minutes"}
    names |= {"suggested_minutes", "would_have_cancelled"}
    for each in advice["processors"]:
        assert names | {"processor"} <= set(each)
    assert names <= set(advice["all"])
    assert "processor" not in advice["all"]
    assert [each["processor"] for each in advice["processors"]] == ["cl_a", None]
    assert "curve" not in advice["all"]
    assert list(json.loads(json.dumps(advice))["all"]["would_have_cancelled"]) == ["15", "30", "60", "120", "240"]
