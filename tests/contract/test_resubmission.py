"""A run that a sweep submits again is to the vendor's SDK one that it could have created itself, and the other way."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Behaviour, World, serve
from prefect_extend_ai.sweep import NamedRuns, StaleRuns, Sweep
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.resubmission import submitting
from prefect_extend_ai.sweep.resubmission.plan import LARGEST_METADATA, RESUBMITTABLE
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from support.journals import MemoryJournal, Prefect
from support.processes import Process

KINDS = sorted(RESUBMITTABLE)
POLICY = StalePolicy(resubmit=1, outage_guard=False, learn_limits=False)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(submitting, "LOOK_AGAIN", 0)


async def sweep(url, kind, *named):
    """One sweep over HTTP, with its journal in memory; each run's result."""
    prefect = Prefect()
    journal = MemoryJournal(
        prefect,
        Process("sweep", latencies=random.Random(0)),
        now=lambda: datetime.now(UTC),
        scope=Scope(kind=kind, api_url=url),
    )
    selector = NamedRuns(kind, named, resubmit=True) if named else StaleRuns(kind, 60, POLICY)
    credentials = ExtendCredentials(api_key="sk_sandbox", base_url=url, requests_per_second=1000)
    async with credentials.get_client() as client:
        engine = Sweep(client, journal, selector)
        selection = await engine.select()
        result = await engine.cancel_batch(selection.targets)
    assert prefect.intents == {} or any(each.resubmission == "unknown" for each in result)
    return {each.run_id: each for each in result}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_sdk_reads_and_lists_what_a_sweep_submits(sdk, served, world, kind):
    world.add(kind, "PROCESSED")
    order = {"file": {"url": "https://example.com/in/letter.pdf"}, "metadata": {"owner": "a", "n": 1.5}}
    old = await sdk(kind, "create", **order, **{kind.processor: {"id": f"{kind}_p", "version": "1.7"}})
    (result,) = (await sweep(served.url, kind, old.id)).values()
    new = await sdk(kind, "retrieve", result.resubmitted_as)
    assert (result.outcome, result.resubmission, new.status.value) == ("cancelled", "submitted", "PROCESSING")
    assert new.metadata == order["metadata"] | {
        "prefect_extend_resubmit_of": old.id,
        "prefect_extend_first_run": old.id,
        "prefect_extend_attempt": 1,
    }
    assert (new.file.id, new.file.name) == (old.file.id, "letter.pdf")
    assert getattr(new, kind.processor).id == f"{kind}_p"
    assert getattr(new, f"{kind.processor}_version").version == "1.7"
    assert new.config == old.config
    listed = (await sdk(kind, "list", source="API", status="PROCESSING")).data
    assert [run.id for run in listed] == [new.id]
    # It is a run like any other: the next sweep gives it up.
    again = await sweep(served.url, kind, new.id)
    assert again[new.id].chain[0].run_id == old.id


@pytest.mark.parametrize("kind", KINDS)
async def test_an_inline_configuration_of_the_sdk_is_kept(sdk, served, world, kind):
    world.add(kind, "PROCESSED")
    config = world.full(world.add(kind, "PROCESSED"))["config"]
    old = await sdk(kind, "create", file={"url": "https://example.com/a.pdf"}, config=config)
    (result,) = (await sweep(served.url, kind, old.id)).values()
    new = await sdk(kind, "retrieve", result.resubmitted_as)
    assert getattr(new, kind.processor) is None
    assert new.config == old.config
    assert "configuration differs" not in result.reason


async def test_an_override_of_the_sdk_is_reported(sdk, served, world):
    kind = RunKind.CLASSIFY
    processor = {"id": "cl_1", "override_config": {"classificationRules": "By the first page."}}
    old = await sdk(kind, "create", file={"url": "https://example.com/a.pdf"}, classifier=processor)
    (result,) = (await sweep(served.url, kind, old.id)).values()
    assert result.resubmission == "submitted"
    assert "its configuration differs from the old run's: an override" in result.reason


def stuck(**behaviour):
    world = World(behaviour=Behaviour(**behaviour), seed=7)
    world.add(id="clr_stuck", age_minutes=90, processor="cl_1", metadata={"a": "x" * 200})
    return world


@pytest.mark.parametrize(("reuses", "resubmission"), [(True, "submitted"), (False, "ineligible")])
async def test_a_file_that_cannot_be_used_again_is_reported(reuses, resubmission):
    with serve(stuck(reuses_files=reuses)) as sandbox:
        (result,) = (await sweep(sandbox.url, RunKind.CLASSIFY)).values()
    assert result.resubmission == resubmission
    assert ("is not available" in result.reason) is not reuses
    creates = [entry for entry in sandbox.world.journal if entry.operation == "create"]
    assert [(entry.category, entry.status) for entry in creates] == [("RUN", 200 if reuses else 400)]


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_version_that_is_not_kept_makes_no_difference(keeps):
    with serve(stuck(keeps_version=keeps)) as sandbox:
        (result,) = (await sweep(sandbox.url, RunKind.CLASSIFY)).values()
    assert result.resubmission == "submitted"
    assert len(sandbox.world.runs) == 2


@pytest.mark.parametrize(("largest", "resubmission"), [(LARGEST_METADATA, "submitted"), (250, "ineligible")])
async def test_metadata_that_extend_does_not_take_is_reported(largest, resubmission):
    with serve(stuck(metadata_bytes=largest)) as sandbox:
        (result,) = (await sweep(sandbox.url, RunKind.CLASSIFY)).values()
    assert result.resubmission == resubmission


@pytest.mark.parametrize("late", ["create_seconds", "list_lag_seconds"])
async def test_a_lost_create_that_shows_late_is_unknown_and_sent_once(late):
    world = stuck(**{late: 3600})
    world.troubles.add("create:*:500-after")
    if late == "list_lag_seconds":
        world.advance(seconds=3700)
    with serve(world) as sandbox:
        (result,) = (await sweep(sandbox.url, RunKind.CLASSIFY)).values()
    assert result.resubmission == "unknown"
    assert sum(entry.operation == "create" for entry in world.journal) == 1
    world.advance(seconds=3700)
    world.tick()
    assert len(world.runs) == 2


async def test_creates_keep_to_their_own_rate_limit():
    world = World(seed=7, requests_per_second=5)
    for _ in range(8):
        world.add(age_minutes=90, processor="cl_1")
    with serve(world) as sandbox:
        result = await sweep(sandbox.url, RunKind.CLASSIFY)
    assert {each.resubmission for each in result.values()} == {"submitted"}
    creates = [entry for entry in world.journal if entry.operation == "create" and entry.status == 200]
    assert len(creates) == 8
    assert creates[-1].time - creates[0].time > timedelta(seconds=0.5)
