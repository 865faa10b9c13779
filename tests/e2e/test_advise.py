"""Advice on limits, end to end: the flow on a real Prefect server, the command, and a sweep that learns the same."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from prefect_extend_ai import ExtendCredentials, LimitAdvice, Outcome
from prefect_extend_ai.errors import ExtendAuthError
from prefect_extend_ai.flows import advise_limits, cancel_stale_runs
from prefect_extend_ai.sandbox import World, serve
from prefect_extend_ai.sandbox.lifetimes import Speed
from prefect_extend_ai.tasks import find_stale_runs

COMMAND = Path(sys.executable).with_name("prefect-extend-ai")
SEEDS = itertools.count(7_000_000)
SPEEDS = [Speed(3, 0.3), Speed(10, 0.3), Speed(40, 0.3)]


@pytest.fixture
def extend(prefect_server):
    """An Extend with three processors, of which the third is slow."""
    world = World(seed=next(SEEDS))
    world.live(runs=900, speeds=SPEEDS)
    with serve(world) as running:
        yield running


@pytest.fixture
def account(extend):
    return ExtendCredentials(api_key="sk_sandbox", base_url=extend.url, requests_per_second=200)


def artifacts(prefect_server, key):
    """The artifacts whose key fits, the newest first."""
    with httpx.Client(base_url=prefect_server.api_url, timeout=60) as http:
        asked = {"artifacts": {"key": key}, "sort": "CREATED_DESC"}
        return http.post("/artifacts/filter", json=asked).raise_for_status().json()


def by_hand(world):
    """The durations of the runs that finished untouched, by processor, read off the runs one by one."""
    found = {}
    for record in world.runs.values():
        if record.status == "PROCESSED" and not record.raw.get("reviewed"):
            name = record.processor.id if record.processor else None
            found.setdefault(name, []).append((record.updated_at - record.created_at) / timedelta(minutes=1))
    return found


def advised(extend, *words, **environment):
    """What the command prints, for somebody without Prefect."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "EXTEND_"))}
    account = {"EXTEND_API_KEY": "sk_sandbox", "EXTEND_BASE_URL": extend.url, "COLUMNS": "160"}
    return subprocess.run(
        [COMMAND, "advise", *words],
        env=clean | account | {"PREFECT_HOME": os.environ["PREFECT_HOME"]} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_the_flow_says_what_counting_says_and_leaves_a_page(extend, account, prefect_server):
    advice = await advise_limits(account)
    assert isinstance(advice, LimitAdvice)
    durations = by_hand(extend.world)
    assert {each.processor: each.finished for each in advice.processors} == {
        name: len(each) for name, each in durations.items()
    }
    for each in advice.processors:
        took = durations[each.processor]
        counts = {limit: sum(minutes > limit for minutes in took) for limit in (15, 30, 60, 120, 240)}
        assert each.would_have_cancelled == counts
    before = artifacts(prefect_server, {"any_": ["extend-limits-classify"]})
    assert before[0]["description"] == advice.headline
    assert advice.headline.startswith("A limit of 60 minutes would have cancelled ")
    page = before[0]["data"]
    assert "data:image/svg+xml;base64," in page
    slowest = max(advice.processors, key=lambda each: each.median_minutes)
    assert f'"{slowest.processor}": {slowest.suggested_minutes}' in page
    # Its history is that of the advice: the page of before stays.
    await advise_limits(account, max_runs=100, max_processing_minutes=5)
    after = artifacts(prefect_server, {"any_": ["extend-limits-classify"]})
    assert len(after) == len(before) + 1
    assert "5 min" in after[0]["data"]
    assert extend.world.journal[0].method == "GET"
    assert {entry.method for entry in extend.world.journal} == {"GET"}


async def test_a_page_of_a_workspace_and_a_kind_has_its_own_key(extend, account, prefect_server):
    named = account.model_copy(update={"workspace_id": "ws_sandbox"})
    advice = await advise_limits(named, kind="parse")
    assert advice.headline == "No parse run has finished: nothing can be said of limits"
    (found,) = artifacts(prefect_server, {"like_": "extend-limits-parse-%"})
    assert found["key"].startswith("extend-limits-parse-ws-sandbox-")


async def test_advice_with_a_wrong_key_is_an_error(extend):
    with pytest.raises(ExtendAuthError):
        await advise_limits(ExtendCredentials(api_key="sk_wrong", base_url=extend.url))


async def test_a_sweep_spares_what_the_advice_calls_usual(extend, account):
    world = extend.world
    advice = await advise_limits(account)
    slow = max(advice.processors, key=lambda each: each.median_minutes)
    assert 60 < slow.suggested_minutes <= 240
    usual = [world.add(age_minutes=age, processor=slow.processor) for age in (61, 70)]
    stuck = [world.add(age_minutes=age, processor=slow.processor) for age in (241, 700)]
    other = world.add(age_minutes=61, processor="cl_another")
    found = await find_stale_runs(account)
    dry = await cancel_stale_runs(account, dry_run=True)
    report = await cancel_stale_runs(account)
    cancelled = {each.run_id for each in report.cancellations if each.outcome is Outcome.CANCELLED}
    assert cancelled >= {*stuck, other}
    assert not cancelled & {*usual}
    assert {run.id for run in found} == {each.run_id for each in dry.cancellations} == cancelled
    assert report.exempt["usual_for_processor"] >= 2
    (learned,) = [each for each in report.learned_limits if each.processor == slow.processor]
    assert learned.minutes <= 240
    limits = {each.run_id: each.limit.source.value for each in report.cancellations}
    assert {run_id: limits[run_id] for run_id in (*stuck, other)} == {
        **dict.fromkeys(stuck, "learned"),
        other: "person",
    }


def test_the_command_prints_json_that_agrees_with_the_runs(extend):
    done = advised(extend, "--json", "--limit", "45")
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)
    durations = by_hand(extend.world)
    assert advice["all"]["finished"] == sum(map(len, durations.values()))
    assert {each["processor"] for each in advice["processors"]} == set(durations)
    for each in advice["processors"]:
        took = durations[each["processor"]]
        assert each["would_have_cancelled"] == {
            str(limit): sum(minutes > limit for minutes in took) for limit in (15, 30, 45, 60, 120, 240)
        }


def test_the_command_prints_a_table_with_a_small_chart(extend):
    done = advised(extend, "--runs", "500")
    assert done.returncode == 0, done.stderr
    assert "of the last " in done.stdout.splitlines()[0]
    assert "█" in done.stdout
    assert "<- in force" in done.stdout
    assert '{"minutes_by_processor": {' in done.stdout


def test_the_command_says_in_one_sentence_what_is_wrong(extend):
    assert advised(extend, "--runs", "0").returncode == 2
    wrong = advised(extend, EXTEND_API_KEY="sk_wrong")
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
    without = advised(extend, EXTEND_API_KEY="")
    assert without.returncode == 1
    assert without.stderr.count("\n") == 1
