"""All six kinds, end to end: a real Prefect server, the sandbox over HTTP, and an oracle that is neither."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta
from urllib.parse import parse_qs

import httpx
import pytest
from prefect.exceptions import ParameterTypeError
from pydantic import TypeAdapter

from prefect_extend_ai import ExtendCredentials, ExtendError, Outcome, RunKind, StalePolicy, SweepFailed
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.runs import KindName
from prefect_extend_ai.sandbox import Behaviour, World, serve
from prefect_extend_ai.sweep.report import SweepRefused
from prefect_extend_ai.tasks import cancel_run, find_stale_runs, get_run

NOT_CANCELLABLE = ["edit", "form_detection", "batch"]
SENTENCE = "is not a kind of run that Extend can cancel: use one of classify, extract, split, parse, verify, workflow"
SEEDS = itertools.count(1_000_000)
QUICK = StalePolicy(confirm_seconds=5)


@pytest.fixture(params=list(RunKind))
def kind(request):
    return request.param


@pytest.fixture
def extend(prefect_server):
    """An Extend of one's own, empty, whose world the test fills."""
    # The Prefect server is shared: no two tests may have runs of the same ids.
    with serve(World(seed=next(SEEDS))) as running:
        yield running


@pytest.fixture
def account(extend):
    return ExtendCredentials(api_key="sk_sandbox", base_url=extend.url, requests_per_second=200)


def stale(world, kind, minutes=60):
    """What is stale, read off the runs one by one; a hold counts wherever the API would show it before the cancel."""
    now = world.now()
    return {
        run_id
        for run_id, run in world.runs.items()
        if run.kind is kind
        and run.state.status == "PROCESSING"
        and now - run.state.updated_at > timedelta(minutes=minutes)
        and not (run.metadata or {}).get("prefect_hold")
    }


def cancelled(world):
    return {run_id for run_id, run in world.runs.items() if run.cancels}


async def test_a_sweep_cancels_and_records_exactly_its_stale_runs(extend, account, artifacts, kind):
    world = extend.world
    for each in RunKind:
        world.populate(runs=40, stuck=8, kind=each)
    # Exactly on either side of the limit, too.
    world.add(kind, age_minutes=61)
    world.add(kind, age_minutes=59)
    meant = stale(world, kind)
    before = {run_id: world.text(run_id) for run_id in world.runs if run_id not in meant}
    plans = {run_id: bool(run.plan) for run_id, run in world.runs.items()}
    assert len(meant) == 9
    assert set(world.stale(60, kind)) == meant
    report = await cancel_stale_runs(account, kind=kind.value, policy=QUICK)
    assert cancelled(world) == meant
    assert report.counts[Outcome.CANCELLED] == 9
    done = {each.run_id for each in report.cancellations if each.outcome is Outcome.CANCELLED}
    assert done == meant
    # A listing of workflow runs shows no metadata: the held ones are found out, and spared, at the check.
    assert report.counts.get(Outcome.SPARED, 0) == (report.selected - 9 if kind is RunKind.WORKFLOW else 0)
    records = artifacts.records()
    for run_id in meant:
        assert records[run_id] == [world.full(run_id)]
    still = [run_id for run_id in before if not plans[run_id]]
    assert len(still) > 150
    assert [run_id for run_id in still if world.text(run_id) != before[run_id]] == []
    page = max(artifacts.keyed(f"extend-sweep-{kind}"), key=lambda artifact: artifact["created"])["data"]
    assert all(run_id in page.replace("\\", "") for run_id in meant)


async def test_runs_named_by_ids_are_cancelled_whatever_their_age(extend, account, artifacts, kind):
    world = extend.world
    young, old = world.add(kind, age_minutes=1), world.add(kind, age_minutes=500)
    ended, held = world.add(kind, "PROCESSED"), world.add(kind, age_minutes=500, metadata={"prefect_hold": True})
    waiting, other = world.add(kind, "PENDING"), world.add(kind, age_minutes=500)
    report = await cancel_runs(account, [young, old, ended, held, waiting, f"{kind.id_prefix}nobody"], kind.value)
    outcomes = {each.run_id: each.outcome for each in report.cancellations}
    assert outcomes == {
        young: Outcome.CANCELLED,
        old: Outcome.CANCELLED,
        ended: Outcome.FINISHED_FIRST,
        held: Outcome.SPARED,
        # Of all kinds, only a workflow run is documented to be cancellable while it waits.
        waiting: Outcome.CANCELLED if kind is RunKind.WORKFLOW else Outcome.SPARED,
        f"{kind.id_prefix}nobody": Outcome.NOT_FOUND,
    }
    assert cancelled(world) == {young, old} | ({waiting} if kind is RunKind.WORKFLOW else set())
    assert world.get(other).status == "PROCESSING"
    records = artifacts.records()
    assert all(records[run_id] == [world.full(run_id)] for run_id in [*cancelled(world), ended])


async def test_tasks_take_each_kind(extend, account, kind):
    run_id = extend.world.add(kind, age_minutes=90)
    assert (await get_run(account, run_id, kind)).raw == extend.world.full(run_id)
    assert [run.id for run in await find_stale_runs(account, 60, kind.value)] == [run_id]
    assert (await cancel_run(account, run_id, kind)).outcome is Outcome.CANCELLED
    assert await find_stale_runs(account, 60, kind) == []


@pytest.fixture
def odd(prefect_server):
    """An Extend whose Date is two hours ahead and whose listings ignore filters."""
    behaviour = Behaviour(date_ahead_minutes=120, heeds_filters=False)
    with serve(World(seed=next(SEEDS), behaviour=behaviour)) as running:
        yield running


async def test_a_report_names_a_wrong_clock_and_what_looks_held(odd, artifacts):
    account = ExtendCredentials(api_key="sk_sandbox", base_url=odd.url, requests_per_second=200)
    young, old = odd.world.add(age_minutes=2), odd.world.add(age_minutes=90, metadata={"ops": {"hold": True}})
    spared = odd.world.add(age_minutes=90)
    policy = QUICK.model_copy(update={"except_runs": [spared]})
    report = await cancel_stale_runs(account, policy=policy)
    assert cancelled(odd.world) == {old}
    assert (report.clock_difference_seconds, report.clock_suspect) == (pytest.approx(7200, abs=2), "extend")
    assert report.looks_held == [old]
    assert report.exempt == {"except_run": 1, "too_young": 1}
    page = max(artifacts.keyed("extend-sweep-classify"), key=lambda artifact: artifact["created"])["data"]
    assert "Extend's clock is" in page
    assert "looks like a hold" in page
    assert odd.world.get(young).status == "PROCESSING"


async def test_a_filter_that_extend_ignores_ends_the_flow_refused(odd):
    account = ExtendCredentials(api_key="sk_sandbox", base_url=odd.url, requests_per_second=200)
    odd.world.add(age_minutes=90, source="STUDIO")
    policy = StalePolicy(source="API")
    with pytest.raises(SweepRefused, match="Extend's listing ignores source"):
        await cancel_stale_runs(account, policy=policy)
    with pytest.raises(ExtendError, match="Extend's listing ignores source"):
        await find_stale_runs(account, 60, policy=policy)
    assert cancelled(odd.world) == set()


async def test_a_run_that_changes_after_it_was_listed_is_spared(extend, account, kind):
    """Single reads of parse and workflow runs tell no times: there the listing is asked again."""
    world = extend.world
    changed, hangs = world.add(kind, age_minutes=90), world.add(kind, age_minutes=91)
    world.troubles.add(f"get:{changed}:touch")
    report = await cancel_stale_runs(account, kind=kind.value, policy=QUICK)
    assert {each.run_id: each.outcome for each in report.cancellations} == {
        changed: Outcome.SPARED,
        hangs: Outcome.CANCELLED,
    }
    assert cancelled(world) == {hangs}
    # Where single reads tell times, one listing is enough.
    in_progress = [each for each in listings(world) if each["status"] == ["PROCESSING"]]
    assert len(in_progress) == (1 if kind.dated else 2)


def listings(world):
    return [parse_qs(entry.query) for entry in world.journal if entry.operation == "list"]


async def test_parse_runs_come_unsorted_so_every_page_is_read(extend, account):
    world = extend.world
    for number in range(250):
        world.add("parse", age_minutes=5 + number % 50)
    found = world.add("parse", age_minutes=90)
    assert [run.id for run in await find_stale_runs(account, 60, "parse")] == [found]
    assert len(listings(world)) == 3
    assert all("sortBy" not in asked and "sortDir" not in asked for asked in listings(world))


@pytest.mark.parametrize("sorted_kind", [kind for kind in RunKind if kind is not RunKind.PARSE])
async def test_a_listing_of_other_kinds_ends_at_the_first_young_run(extend, account, sorted_kind):
    world = extend.world
    for number in range(250):
        world.add(sorted_kind, age_minutes=5 + number % 50)
    found = world.add(sorted_kind, age_minutes=90)
    assert [run.id for run in await find_stale_runs(account, 60, sorted_kind)] == [found]
    # Limits are learned, for these kinds, from the runs that finished last.
    asked, *learned = listings(world)
    assert (asked["sortBy"], asked["sortDir"]) == (["updatedAt"], ["asc"])
    learns = sorted_kind in (RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.SPLIT)
    assert [each["status"] for each in learned] == [["PROCESSED"]] * learns


@pytest.mark.parametrize("undated", ["parse", "workflow"])
async def test_reads_without_times_take_their_age_from_the_listing(extend, account, undated):
    world = extend.world
    going, finishing = (world.add(undated, age_minutes=90) for _ in range(2))
    world.troubles.add(f"get:{finishing}:finish")
    assert not {"createdAt", "updatedAt"} & world.full(going).keys()
    report = await cancel_stale_runs(account, kind=undated, policy=QUICK)
    done = {each.run_id: each for each in report.cancellations}
    assert (done[going].outcome, done[finishing].outcome) == (Outcome.CANCELLED, Outcome.FINISHED_FIRST)
    assert done[going].age_minutes == pytest.approx(90, abs=0.5)
    assert not world.cancels(finishing)


async def test_a_verify_run_that_ends_before_its_cancel_finished_first(extend, account):
    world = extend.world
    run_id = world.add("verify", age_minutes=90)
    # The vendor answers a cancel of an ended verify run with 200 and the unchanged run.
    world.troubles.add(f"cancel:{run_id}:finish")
    report = await cancel_stale_runs(account, kind="verify", policy=QUICK)
    assert report.counts == {Outcome.FINISHED_FIRST: 1}
    assert [entry.status for entry in world.journal if entry.operation == "cancel"] == [200]
    assert not world.cancels(run_id)


async def test_a_workflow_run_that_is_cancelling_is_waited_for(extend, account, artifacts):
    world = extend.world
    run_id = world.add("workflow", age_minutes=90)
    world.troubles.add(f"cancel:{run_id}:cancel=cancelling")
    report = await cancel_stale_runs(account, kind="workflow", policy=QUICK)
    assert report.counts == {Outcome.CANCELLED: 1}
    assert artifacts.records()[run_id] == [world.full(run_id)]


@pytest.mark.parametrize("status", ["PENDING", "CANCELLING", "NEEDS_REVIEW", "REJECTED"])
async def test_a_sweep_leaves_other_statuses_of_a_workflow_alone(extend, account, status):
    world = extend.world
    world.add("workflow", status, age_minutes=900)
    turning = world.add("workflow", age_minutes=900)
    world.troubles.add(f"get:{turning}:status={status}@1-")
    report = await cancel_stale_runs(account, kind="workflow", policy=QUICK)
    assert report.counts == {Outcome.FINISHED_FIRST if status == "REJECTED" else Outcome.SPARED: 1}
    assert not [entry for entry in world.journal if entry.operation == "cancel"]


async def test_a_cancel_that_ends_in_review_is_unconfirmed(extend, account, artifacts):
    world = extend.world
    run_id = world.add("workflow", age_minutes=90)
    world.troubles.add(f"cancel:{run_id}:cancel=never", f"get:{run_id}:status=NEEDS_REVIEW@2-")
    with pytest.raises(SweepFailed) as failed:
        await cancel_stale_runs(account, kind="workflow", policy=StalePolicy(confirm_seconds=1))
    assert failed.value.report.counts == {Outcome.UNCONFIRMED: 1}
    assert artifacts.open_intents(account.api_url, "extend-write-ahead-workflow") == [[run_id]]


@pytest.mark.parametrize(
    ("kind_name", "policy", "said"),
    [
        ("verify", {"batch_id": "bpr_1"}, "Extend cannot list verify runs by batch_id"),
        ("workflow", {"source": "API"}, "Extend cannot list workflow runs by source"),
        ("parse", {"only_processors": ["ex_1"]}, "parse runs have no processor"),
        ("verify", {"except_processors": ["ex_1"]}, "verify runs have no processor"),
        ("parse", {"minutes_by_processor": {"ex_1": 5}}, "parse runs have no processor"),
    ],
)
async def test_a_policy_that_a_kind_cannot_keep_is_refused_first(extend, account, kind_name, policy, said):
    extend.world.add(kind_name, age_minutes=90)
    for call in (
        cancel_stale_runs(account, kind=kind_name, policy=StalePolicy(**policy)),
        find_stale_runs(account, 60, kind_name, StalePolicy(**policy)),
    ):
        with pytest.raises(ExtendError, match=said) as refused:
            await call
        assert str(refused.value).count(". ") == 0
    assert extend.world.journal == []


@pytest.mark.parametrize("name", [*NOT_CANCELLABLE, "clasify"])
async def test_a_kind_without_cancel_endpoint_gets_a_clear_message(extend, account, name):
    for flow_call in (
        lambda: cancel_stale_runs(account, kind=name),
        lambda: cancel_runs(account, ["clr_1"], kind=name),
    ):
        with pytest.raises(ParameterTypeError, match=f"'{name}' {SENTENCE}"):
            await flow_call()
    for task_call in (
        lambda: cancel_run(account, "clr_1", name),
        lambda: get_run(account, "clr_1", name),
        lambda: find_stale_runs(account, 60, name),
    ):
        with pytest.raises(ExtendError, match=f"'{name}' {SENTENCE}"):
            await task_call()
    with pytest.raises(ValueError, match=SENTENCE):
        RunKind(name)
    assert extend.world.journal == []


async def test_a_deployment_offers_the_six_kinds_and_refuses_others(prefect_server, account):
    await account.asave("kinds", overwrite=True)
    deployment = await cancel_stale_runs.ato_deployment("kinds")
    deployment_id = await deployment.aapply()
    block = {"$ref": {"block_document_id": str(account._block_document_id)}}
    async with httpx.AsyncClient(base_url=prefect_server.api_url) as http:
        known = (await http.get(f"/deployments/{deployment_id}")).json()
        offered = known["parameter_openapi_schema"]["properties"]["kind"]["enum"]
        assert offered == [kind.value for kind in RunKind]
        answers = {}
        for name in ["parse", *NOT_CANCELLABLE]:
            body = {"parameters": {"credentials": block, "kind": name}}
            answers[name] = await http.post(f"/deployments/{deployment_id}/create_flow_run", json=body)
    assert answers.pop("parse").status_code == 201
    for name, answer in answers.items():
        assert answer.status_code == 409
        assert f"'{name}' is not one of ['classify', 'extract'" in json.dumps(answer.json()).replace('\\"', '"')


def test_the_names_that_flows_take_are_the_kinds():
    assert TypeAdapter(KindName).json_schema()["enum"] == [kind.value for kind in RunKind]
    assert TypeAdapter(KindName).validate_python(RunKind.PARSE) == "parse"


async def test_six_sweeps_at_once_keep_out_of_each_others_way(extend, account, artifacts):
    world = extend.world
    meant = {kind: {world.add(kind, age_minutes=90) for _ in range(3)} for kind in RunKind}
    reports = await asyncio.gather(*(cancel_stale_runs(account, kind=kind.value, policy=QUICK) for kind in RunKind))
    for report in reports:
        assert {each.run_id for each in report.cancellations} == meant[report.kind]
        assert report.counts == {Outcome.CANCELLED: 3}
        assert artifacts.open_intents(account.api_url, f"extend-write-ahead-{report.kind}") == []
