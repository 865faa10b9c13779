"""Documents that are submitted again, on a real Prefect: to their end, killed at each step, and by hand."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from prefect_extend_ai import ExtendCredentials, StalePolicy, SweepFailed
from prefect_extend_ai.errors import ExtendTimeoutError
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.sandbox import Behaviour, State, serve
from prefect_extend_ai.sweep.resubmission import submitting
from prefect_extend_ai.tasks import wait_for_run
from support.killing import NOTES, killed
from support.pages import python_blocks, run_example

POLICY = StalePolicy(resubmit=2)
PAGE = Path(__file__).parents[2] / "docs" / "resubmit.md"
BLOCKS = python_blocks(PAGE)


def account(sandbox):
    return ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)


def successors(world):
    """The runs that replace each run."""
    found = {}
    for run_id, record in world.runs.items():
        replaced = (record.metadata or {}).get("prefect_extend_resubmit_of")
        if replaced is not None:
            found.setdefault(replaced, []).append(run_id)
    return found


def grow_old(world, run_id):
    """Have a run be created, and changed last, two hours earlier."""
    with world.lock:
        record = world.runs[run_id]
        world._listing.show(record, None)
        record.created_at -= timedelta(hours=2)
        record.state = State(record.status, record.updated_at - timedelta(hours=2))
        world._listing.show(record, record.state)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Looks for a lost create without the pause of people."""
    monkeypatch.setattr(submitting, "LOOK_AGAIN", 0.2)


async def test_one_document_finishes_and_another_is_given_up(prefect_server, kept):
    artifacts, stuck = kept
    world = stuck(2, behaviour=Behaviour(created_run_seconds=None))
    finishes, hangs = world.stale()
    with serve(world) as sandbox:
        report = await cancel_stale_runs(account(sandbox), policy=POLICY)
        assert report.headline == "Cancelled 2 of 2 stale classify runs; 2 submitted again"
        ((second,), (other,)) = successors(world)[hangs], successors(world)[finishes]
        world.life.change(world.runs[other], "PROCESSED", world.now())
        grow_old(world, second)
        report = await cancel_stale_runs(account(sandbox), policy=POLICY)
        assert report.headline == "Cancelled 1 of 1 stale classify run; 1 submitted again"
        (third,) = successors(world)[second]
        grow_old(world, third)
        report = await cancel_stale_runs(account(sandbox), policy=POLICY)
        given_up = "Cancelled 1 of 1 stale classify run; 1 given up"
        assert report.headline == given_up
        assert (await cancel_stale_runs(account(sandbox), policy=POLICY)).selected == 0
    assert {run_id: len(new) for run_id, new in successors(world).items()} == {finishes: 1, hangs: 1, second: 1}
    assert artifacts.holds_each_once(world)
    assert artifacts.open_intents(sandbox.url) == []
    # The chain is in the record of the last run, and in the report.
    (record,) = artifacts.holding(third)
    reports = [each["data"] for each in artifacts.keyed("extend-sweep-classify", type={"any_": ["markdown"]})]
    (page,) = [data for data in reports if f"## {given_up}" in data and third in data.replace("\\", "")]
    for text in (record["data"], page):
        assert {hangs, second} <= set(re.findall(r"clr_[\w-]+", text.replace("\\", ""))), text
    completed = artifacts.keyed(NOTES, type={"any_": ["markdown"]})
    assert any((each["metadata_"] or {}).get(f"extend_resubmitted_{second}") == third for each in completed)


STEPS = [("cancel", 1, "after"), ("claim", 1, "after"), ("create", 1, "after"), ("close", 1, "before")]
AT_NIGHT = [
    ("note", 1, "after"),
    ("check", 2, "after"),
    ("record", 1, "before"),
    ("record", 3, "after"),
    ("claim", 1, "before"),
    ("create", 1, "before"),
    ("create", 3, "after"),
    ("close", 1, "after"),
    ("report", 1, "after"),
]


@pytest.mark.parametrize(
    "killed_at",
    [*STEPS, *(pytest.param(step, marks=pytest.mark.nightly) for step in AT_NIGHT)],
    ids=lambda at: f"{at[2]} {at[0]} {at[1]}",
)
async def test_killed_at_this_step_nothing_is_submitted_twice(prefect_server, proxied, sweeping, kept, killed_at):
    step, (artifacts, stuck) = killed_at[0], kept
    world = stuck(3, behaviour=Behaviour(created_run_seconds=None))
    stale = world.stale()
    policy = POLICY.model_dump_json()
    with serve(world) as sandbox:
        extend, prefect = proxied(sandbox.url), proxied(prefect_server.api_url)
        await killed(
            lambda: sweeping(extend.url, "sweep", policy, api_url=prefect.url, COVERAGE_PROCESS_CONFIG=""),
            extend,
            prefect,
            killed_at,
        )
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=extend.url, requests_per_second=100)
        try:
            report = await cancel_stale_runs(credentials, policy=POLICY)
        except SweepFailed as failed:
            report = failed.report
        later = await cancel_stale_runs(credentials, policy=POLICY)

    new = successors(world)
    assert all(len(runs) == 1 for runs in new.values()), new
    # What was claimed may have been sent, and is never sent again; everything else is.
    unknown = set(report.unknown)
    assert new.keys() | unknown == set(stale)
    assert not new.keys() & unknown
    assert not unknown or step in ("claim", "create")
    assert {each.run_id for each in later.resubmissions if each.is_looked_for} == unknown
    assert artifacts.holds_each_once(world)


async def test_two_sweeps_at_once_submit_each_document_once(prefect_server, sweeping, kept):
    artifacts, stuck = kept
    world = stuck(20, behaviour=Behaviour(created_run_seconds=None), requests_per_second=40)
    with serve(world) as sandbox:
        sweeps = [sweeping(sandbox.url, "sweep", POLICY.model_dump_json(), rate=20) for _ in range(2)]
        assert [each.wait(120) for each in sweeps] == [0, 0], [each.said for each in sweeps]
    assert [len(new) for new in successors(world).values()] == [1] * 20
    assert artifacts.holds_each_once(world)
    assert artifacts.open_intents(sandbox.url) == []


async def test_a_refused_sweep_submits_nothing(prefect_server, kept):
    _, stuck = kept
    world = stuck(2, troubles=["create:*:429@1-"])
    with serve(world) as sandbox, pytest.raises(SweepFailed, match="refuse_above"):
        await cancel_stale_runs(account(sandbox), policy=StalePolicy(resubmit=2, refuse_above=1))
    assert not any(entry.operation in ("create", "cancel") for entry in world.journal)


@pytest.mark.parametrize("kind", ["parse", "verify", "workflow"])
async def test_other_kinds_are_refused_before_any_request(prefect_server, sandbox, kind):
    with pytest.raises(SweepFailed, match=f"a {kind} run cannot be submitted again"):
        await cancel_stale_runs(account(sandbox), kind=kind, policy=StalePolicy(resubmit=1))
    assert sandbox.world.journal == []


async def test_named_runs_are_cancelled_and_submitted_again(prefect_server, kept):
    _, stuck = kept
    world = stuck(2)
    one, other = world.stale()
    with serve(world) as sandbox:
        report = await cancel_runs(account(sandbox), [one], resubmit=True)
    assert report.headline == "Cancelled 1 of 1 classify run; 1 submitted again"
    assert successors(world).keys() == {one}
    assert world.get(other).status == "PROCESSING"


@pytest.fixture
def example(tmp_path):
    """Runs the block of the page that defines this name, and gives the name."""
    return lambda name: run_example(BLOCKS, name, tmp_path)


async def test_the_sweep_of_the_page_submits_again(prefect_server, kept, example, monkeypatch, capsys):
    _, stuck = kept
    world = stuck(1)
    with serve(world) as sandbox:
        monkeypatch.setenv("EXTEND_API_KEY", "sk_sandbox")
        monkeypatch.setenv("EXTEND_BASE_URL", sandbox.url)
        await example("sweep_and_submit")()
    assert "Cancelled 1 of 1 stale classify run; 1 submitted again" in capsys.readouterr().out


async def test_one_run_is_submitted_again_by_hand(prefect_server, kept, example):
    _, stuck = kept
    world = stuck(0)
    failed = world.add(status="FAILED", failure_reason="INTERNAL_ERROR", age_minutes=600)
    with serve(world) as sandbox:
        await account(sandbox).asave("extend", overwrite=True)
        submit_again = example("submit_again")
        new = await submit_again(failed)
        assert await submit_again(failed) == new
    assert successors(world) == {failed: [new]}


async def test_waiting_for_a_run_returns_or_cancels_it(prefect_server, kept, example, artifacts):
    _, stuck = kept
    world = stuck(0)
    ends = world.add(plan=[(1.5, "PROCESSED")])
    hangs = world.add(age_minutes=40)
    with serve(world) as sandbox:
        await account(sandbox).asave("extend", overwrite=True)
        result_of = example("result_of")
        assert await result_of(ends) == f"{ends} ended as PROCESSED"
        # Its deadline, 30 minutes after its creation, has passed.
        assert await result_of(hangs) == f"{hangs} took too long: cancelled"
    assert artifacts.records()[hangs] == [world.full(hangs)]


async def test_waiting_may_leave_a_run_alone(prefect_server, kept):
    _, stuck = kept
    world = stuck(0)
    hangs = world.add(age_minutes=40)
    with serve(world) as sandbox, pytest.raises(ExtendTimeoutError, match="left alone") as raised:
        await wait_for_run(account(sandbox), hangs, on_timeout="leave")
    assert (raised.value.run_id, raised.value.outcome) == (hangs, None)
    assert world.get(hangs).status == "PROCESSING"


def test_a_flow_that_is_not_async_waits_too(prefect_server, kept, example):
    _, stuck = kept
    world = stuck(0)
    ends = world.add(plan=[(1.5, "PROCESSED")])
    with serve(world) as sandbox:
        account(sandbox).save("extend", overwrite=True)
        assert example("status_of")(ends) == "PROCESSED"


def test_each_example_of_the_page_is_run_by_a_test():
    names = {name for block in BLOCKS for name in re.findall(r"^(?:async )?def (\w+)\(", block, re.MULTILINE)}
    assert names == {"sweep_and_submit", "submit_again", "result_of", "status_of"}
