from __future__ import annotations

import itertools
import random

import pytest

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Behaviour, World


async def everything(client, path="/classify_runs", **asked):
    """All ids that paging through a listing shows, in order."""
    found, token = [], None
    while True:
        answer = await client.get(path, params={**asked, **({"nextPageToken": token} if token else {})})
        assert answer.status_code == 200, answer.text
        found += [item["id"] for item in answer.json()["data"]]
        token = answer.json().get("nextPageToken")
        if not token:
            return found


@pytest.mark.parametrize("paging", ["cursor", "offset"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["createdAt", "updatedAt"])
async def test_paging_shows_everything_once_and_in_order(still, reach, sort_by, sort_dir, paging):
    world = still(behaviour=Behaviour(paging=paging))
    world.populate(runs=57, stuck=20)
    async with reach(world) as client:
        found = await everything(client, sortBy=sort_by, sortDir=sort_dir, maxPageSize=7)
    when = {"createdAt": lambda record: record.created_at, "updatedAt": lambda record: record.updated_at}[sort_by]
    expected = sorted(world.runs.values(), key=when, reverse=sort_dir == "desc")
    assert found == [record.id for record in expected]


async def test_order_holds_however_runs_change_between_listings(still, reach):
    world, rng = still(), random.Random(5)
    world.populate(runs=40, stuck=10)
    async with reach(world) as client:
        for _ in range(30):
            record = rng.choice(list(world.runs.values()))
            if rng.random() < 0.1:
                world.remove(record)
            else:
                world.life.change(record, rng.choice(["PROCESSING", "PROCESSED", "CANCELLED"]), world.now())
            world.advance(seconds=1)
            world.tick()
            for status in ("PROCESSING", "PROCESSED"):
                found = await everything(client, status=status, sortDir="asc", maxPageSize=9)
                there = [each for each in world.runs.values() if each.status == status]
                assert found == [each.id for each in sorted(there, key=lambda each: (each.updated_at, each.id))]


async def test_the_default_is_ten_and_the_latest_change_first(still, reach):
    world = still()
    ids = [world.add(age_minutes=minutes) for minutes in range(15)]
    async with reach(world) as client:
        body = (await client.get("/classify_runs")).json()
    assert [item["id"] for item in body["data"]] == ids[:10]
    assert body["object"] == "list"


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({"status": "PROCESSED"}, {"status": "PROCESSED"}),
        ({"classifierId": "cl_mine"}, {"processor": "cl_mine"}),
        ({"batchId": "bpr_1"}, {"batch_id": "bpr_1"}),
        ({"source": "STUDIO"}, {"source": "STUDIO"}),
        ({"sourceId": "workflow_run_1"}, {"source_id": "workflow_run_1"}),
        ({"fileNameContains": "Invoice"}, {"file_name": "my invoice.pdf"}),
    ],
)
async def test_each_filter_keeps_to_its_runs(still, reach, asked, fits):
    world = still()
    for number in range(30):
        world.add(age_minutes=number)
    wanted = {world.add(age_minutes=number * 7, **fits) for number in range(5)}
    async with reach(world) as client:
        assert set(await everything(client, **asked, maxPageSize=2)) == wanted


async def test_unknown_parameters_are_ignored(still, reach):
    world = still()
    world.populate(runs=20, stuck=5)
    async with reach(world) as client:
        assert len(await everything(client, statuss="PROCESSING", createdBefore="2020")) == 20
        # A verify run has no batch: the filter is unknown there.
        world.add("verify")
        assert len(await everything(client, "/verify_runs", batchId="bpr_1")) == 1


async def test_a_verify_listing_knows_the_risk_level(still, reach):
    world = still()
    for number in range(12):
        world.add("verify", "PROCESSED", age_minutes=number)
    async with reach(world) as client:
        levels = {
            level: await everything(client, "/verify_runs", riskLevel=level) for level in ("LOW", "MEDIUM", "HIGH")
        }
    assert sorted(itertools.chain(*levels.values())) == sorted(world.runs)
    assert [world.full(each)["output"]["riskLevel"] for each in levels["HIGH"]] == ["HIGH"] * len(levels["HIGH"])


async def test_a_parse_listing_does_not_sort(still, reach):
    world = still()
    for minutes in (5, 1, 9):
        world.add("parse", age_minutes=minutes)
    async with reach(world) as client:
        first = await everything(client, "/parse_runs", sortBy="createdAt", sortDir="asc")
        assert first == await everything(client, "/parse_runs", sortDir="nonsense")


@pytest.mark.parametrize(
    "asked",
    [
        {"maxPageSize": "0"},
        {"maxPageSize": "1001"},
        {"maxPageSize": "ten"},
        {"sortBy": "age"},
        {"sortDir": "up"},
        {"status": "processing"},
        {"nextPageToken": "garbage"},
        {"nextPageToken": "e30=:e30="},
    ],
)
async def test_what_cannot_be_read_is_refused(still, reach, asked):
    async with reach(still()) as client:
        answer = await client.get("/classify_runs", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


async def a_token(client: object, world: World, **asked: object) -> str:
    for minutes in range(5):
        world.add(age_minutes=minutes)
    return (await client.get("/classify_runs", params={"maxPageSize": 2, **asked})).json()["nextPageToken"]


async def test_a_token_belongs_to_its_query(still, reach):
    world = still()
    async with reach(world) as client:
        token = await a_token(client, world, status="PROCESSING")
        asked = {"maxPageSize": 2, "nextPageToken": token}
        assert (await client.get("/classify_runs", params={**asked, "status": "PROCESSING"})).status_code == 200
        for other in ({}, {"status": "FAILED"}, {"status": "PROCESSING", "sortDir": "asc"}):
            refused = await client.get("/classify_runs", params={**asked, **other})
            assert refused.status_code == 400
            assert "other parameters" in refused.json()["message"]


async def test_a_token_must_be_quoted_in_a_url(still, reach):
    world = still()
    async with reach(world) as client:
        first, second = (await a_token(client, world)).split(":")
    assert first.endswith("==")
    assert second.endswith("=")


async def test_tokens_may_expire(still, reach):
    world = still(behaviour=Behaviour(token_seconds=60))
    async with reach(world) as client:
        token = await a_token(client, world)
        asked = {"maxPageSize": 2, "nextPageToken": token}
        world.advance(seconds=60)
        assert (await client.get("/classify_runs", params=asked)).status_code == 200
        world.advance(seconds=1)
        assert "expired" in (await client.get("/classify_runs", params=asked)).json()["message"]


@pytest.mark.parametrize(("paging", "missed"), [("cursor", 0), ("offset", 2)])
async def test_a_shrinking_set_skips_runs_where_pages_count_items(still, reach, paging, missed):
    world = still(behaviour=Behaviour(paging=paging))
    ids = [world.add(age_minutes=100 - number) for number in range(6)]
    asked = {"status": "PROCESSING", "sortDir": "asc", "maxPageSize": 2}
    async with reach(world) as client:
        page = (await client.get("/classify_runs", params=asked)).json()
        for item in page["data"]:
            await client.post(f"/classify_runs/{item['id']}/cancel")
        rest = await everything(client, **asked, nextPageToken=page["nextPageToken"])
    seen = {item["id"] for item in page["data"]} | set(rest)
    assert len(set(ids) - seen) == missed


async def test_listings_may_be_behind_single_reads(still, reach):
    world = still(behaviour=Behaviour(list_lag_seconds=5))
    run_id = world.add(age_minutes=90)
    async with reach(world) as client:
        await client.post(f"/classify_runs/{run_id}/cancel")
        assert (await client.get(f"/classify_runs/{run_id}")).json()["status"] == "CANCELLED"
        assert await everything(client, status="PROCESSING") == [run_id]
        world.advance(seconds=5)
        assert await everything(client, status="PROCESSING") == []
        assert await everything(client, status="CANCELLED") == [run_id]


def test_every_kind_is_listed_under_its_own_path(still):
    world = still()
    ids = {kind: world.add(kind) for kind in RunKind}
    assert all(ids[kind].startswith(kind.id_prefix) for kind in RunKind)
