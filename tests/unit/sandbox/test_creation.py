"""A created run keeps what the request said; what the vendor does not document is a switch."""

from __future__ import annotations

import pytest

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Behaviour

KINDS = [RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.SPLIT]


async def create(client, kind, **order):
    return await client.post(kind.path, json={"file": {"id": "file_1"}, kind.processor: {"id": "p_1"}} | order)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_created_run_keeps_what_was_asked_for(still, reach, kind):
    world = still()
    old = world.full(world.add(kind, "CANCELLED", processor="p_1", file_name="invoice.pdf", version="1.7"))
    order = {"file": {"id": old["file"]["id"]}, "metadata": {"a": [1]}, kind.processor: {"id": "p_1", "version": "1.7"}}
    async with reach(world) as client:
        new = (await client.post(kind.path, json=order)).json()
        assert new == (await client.get(f"{kind.path}/{new['id']}")).json()
        listed = (await client.get(kind.path, params={"source": "API", "status": "PROCESSING"})).json()["data"]
    assert new["config"] == old["config"]
    assert (new["file"]["id"], new["file"]["name"]) == (old["file"]["id"], "invoice.pdf")
    assert (new[kind.processor]["id"], new[f"{kind.processor}Version"]["version"]) == ("p_1", "1.7")
    assert new["metadata"] == {"a": [1]}
    assert [run["id"] for run in listed] == [new["id"]]


async def test_an_override_shows_in_the_config_alone(still, reach):
    async with reach(still()) as client:
        processor = {"id": "p_1", "overrideConfig": {"classificationRules": "By the first page."}}
        run = (await create(client, RunKind.CLASSIFY, classifier=processor)).json()
    assert run["config"]["classificationRules"] == "By the first page."
    assert run["classifier"]["id"] == "p_1"


async def test_a_run_may_be_created_with_another_version(still, reach):
    async with reach(still(behaviour=Behaviour(keeps_version=False))) as client:
        run = (await create(client, RunKind.CLASSIFY, classifier={"id": "p_1", "version": "1.0"})).json()
    assert run["classifierVersion"]["version"] == "2.1"


@pytest.mark.parametrize(("reuses", "status"), [(True, 200), (False, 400)])
async def test_a_file_of_a_cancelled_run_may_be_gone(still, reach, reuses, status):
    world = still(behaviour=Behaviour(reuses_files=reuses))
    file = world.full(world.add(status="CANCELLED"))["file"]
    async with reach(world) as client:
        assert (await create(client, RunKind.CLASSIFY, file={"id": file["id"]})).status_code == status


async def test_metadata_has_a_largest_size(still, reach):
    async with reach(still(behaviour=Behaviour(metadata_bytes=100))) as client:
        assert (await create(client, RunKind.CLASSIFY, metadata={"a": "x" * 92})).status_code == 200
        assert (await create(client, RunKind.CLASSIFY, metadata={"a": "x" * 93})).status_code == 400


async def test_a_created_run_may_exist_late_and_be_listed_later(still, reach):
    world = still(behaviour=Behaviour(create_seconds=30, list_lag_seconds=10, created_run_seconds=None))
    async with reach(world) as client:

        async def seen():
            listed = (await client.get("/classify_runs")).json()["data"]
            return (await client.get(f"/classify_runs/{run_id}")).status_code, [run["id"] for run in listed]

        run_id = (await create(client, RunKind.CLASSIFY)).json()["id"]
        assert await seen() == (404, [])
        world.advance(seconds=30)
        assert await seen() == (200, [])
        world.advance(seconds=10)
        assert await seen() == (200, [run_id])


async def test_a_create_whose_answer_is_lost_takes_effect(still, reach):
    world = still(troubles=["create:*:500-after"])
    async with reach(world) as client:
        assert (await create(client, RunKind.CLASSIFY)).status_code == 500
    (run,) = world.runs.values()
    assert run.source == "API"
