"""A sweep over 900 runs of every status and age: exactly the stale ones are cancelled, and each is kept whole."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from prefect_extend_ai import ExtendCredentials, Outcome, StalePolicy
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sandbox import World, serve

RUNS, STUCK = 900, 230
POLICY = StalePolicy(max_cancellations=1000)


@pytest.fixture(scope="module")
def sandbox():
    with serve(World.populated(runs=RUNS, stuck=STUCK, seed=900)) as running:
        yield running


def stale_by_hand(world):
    """What must be cancelled, said again from what a single read answers."""
    now = world.now().timestamp()

    def is_stale(run):
        old = now - datetime.fromisoformat(run["updatedAt"]).timestamp() > 3600
        return run["status"] == "PROCESSING" and old and not (run["metadata"] or {}).get("prefect_hold")

    return {run_id for run_id in world.runs if is_stale(world.full(run_id))}


def cancels(world):
    return [entry.run_id for entry in world.journal if entry.operation == "cancel"]


async def test_a_sweep_cancels_exactly_the_stale_runs_kept_whole(prefect_server, artifacts, sandbox):
    world = sandbox.world
    credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=1000)
    stale = stale_by_hand(world)
    assert len(stale) == STUCK
    bystanders = {run_id: world.full(run_id) for run_id in world.runs if world.get(run_id).status != "PROCESSING"}

    dry = await cancel_stale_runs(credentials, policy=POLICY, dry_run=True)
    assert {each.run_id for each in dry.cancellations} == stale
    assert dry.counts == {Outcome.WOULD_CANCEL: STUCK}
    assert cancels(world) == []

    report = await cancel_stale_runs(credentials, policy=POLICY)
    assert [each.run_id for each in report.cancellations] == [each.run_id for each in dry.cancellations]
    assert report.counts == {Outcome.CANCELLED: STUCK}
    assert sorted(cancels(world)) == sorted(stale)
    assert {run_id for run_id in world.runs if world.cancels(run_id)} == stale

    records = artifacts.records()
    assert {run_id: records.get(run_id) for run_id in stale} == {run_id: [world.full(run_id)] for run_id in stale}
    assert not any(run_id in records for run_id in world.runs if run_id not in stale)
    ended = {run_id: run for run_id, run in bystanders.items() if run["status"] in ("PROCESSED", "FAILED", "CANCELLED")}
    assert {run_id: world.full(run_id) for run_id in ended} == ended

    again = await cancel_stale_runs(credentials, policy=POLICY)
    assert again.selected == 0
    assert again.headline.startswith("No stale classify runs to cancel (")
    assert len(cancels(world)) == STUCK


async def test_each_record_that_a_report_links_holds_its_run(prefect_server, artifacts, sandbox):
    credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=1000)
    fresh = [sandbox.world.add(age_minutes=minutes, metadata={"n": minutes}) for minutes in (61, 600, 6000)]
    report = await cancel_stale_runs(credentials)
    assert [each.run_id for each in report.cancellations] == fresh[::-1]
    by_id = {
        artifact["id"]: artifact
        for artifact in artifacts.all(id={"any_": [str(each.record) for each in report.cancellations]})
    }
    for each in report.cancellations:
        artifact = by_id[str(each.record)]
        assert artifact["key"] is None
        assert each.run_id in artifact["metadata_"].values()
        assert json.dumps(each.run_id) in artifact["data"]
