from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Behaviour


async def test_a_wrong_key_version_or_workspace_is_refused(still, reach):
    world = still(keys={"sk_one": "ws_one", "sk_org": None})
    run_id = world.add(workspace="ws_one")
    right = {"Authorization": "Bearer sk_one", "x-extend-api-version": "2026-02-09"}
    organization = {**right, "Authorization": "Bearer sk_org"}
    cases = [
        (right, 200, None),
        ({**right, "x-extend-workspace-id": "ws_one"}, 200, None),
        ({**right, "Authorization": ""}, 401, "UNAUTHORIZED"),
        ({**right, "Authorization": "Basic sk_one"}, 401, "UNAUTHORIZED"),
        ({**right, "Authorization": "Bearer sk_two"}, 401, "UNAUTHORIZED"),
        ({**right, "x-extend-api-version": "2025-04-21"}, 400, "INVALID_REQUEST"),
        ({**right, "x-extend-api-version": ""}, 400, "INVALID_REQUEST"),
        ({**right, "x-extend-workspace-id": "ws_two"}, 403, "FORBIDDEN"),
        (organization, 400, "INVALID_REQUEST"),
        ({**organization, "x-extend-workspace-id": "ws_one"}, 200, None),
        ({**organization, "x-extend-workspace-id": "ws_two"}, 404, "NOT_FOUND"),
    ]
    async with reach(world) as client:
        for headers, status, code in cases:
            answer = await client.get(f"/classify_runs/{run_id}", headers=headers)
            assert (answer.status_code, answer.json().get("code")) == (status, code), headers


async def test_a_run_is_found_only_under_its_own_kind_and_workspace(still, reach):
    world = still()
    mine, theirs = world.add(), world.add(workspace="ws_other")
    async with reach(world) as client:
        assert (await client.get(f"/classify_runs/{mine}")).status_code == 200
        for path in (f"/extract_runs/{mine}", f"/classify_runs/{theirs}", "/classify_runs/clr_none"):
            for answer in (await client.get(path), await client.post(f"{path}/cancel"), await client.delete(path)):
                assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        assert [item["id"] for item in (await client.get("/classify_runs")).json()["data"]] == [mine]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/edit_runs", 404),
        ("POST", "/batch_runs/bpr_1/cancel", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/classify_runs/a/b", 404),
        ("PUT", "/classify_runs", 405),
        ("GET", "/classify_runs/clr_1/cancel", 405),
        ("POST", "/classify_runs/batch", 405),
    ],
)
async def test_a_path_that_is_not_there_is_an_error_of_the_api(still, reach, method, path, status):
    async with reach(still()) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "message", "retryable", "requestId"}


@pytest.mark.parametrize("ahead", [120, -120])
async def test_a_date_may_be_ahead_of_the_times_of_runs(still, reach, ahead):
    world = still(behaviour=Behaviour(date_ahead_minutes=ahead))
    world.add(age_minutes=0)
    async with reach(world) as client:
        answer = await client.get("/classify_runs")
    changed = datetime.fromisoformat(answer.json()["data"][0]["updatedAt"])
    assert parsedate_to_datetime(answer.headers["Date"]) - changed == timedelta(minutes=ahead)


@pytest.mark.parametrize(("applied", "found"), [(True, 0), (False, 1)])
async def test_filters_may_be_ignored_silently(still, reach, applied, found):
    world = still(behaviour=Behaviour(heeds_filters=applied))
    world.add()
    async with reach(world) as client:
        answer = await client.get("/classify_runs", params={"source": "STUDIO", "batchId": "bpr_1"})
    assert len(answer.json()["data"]) == found


async def test_every_response_has_a_request_id_and_the_worlds_date(still, reach):
    world = still()
    async with reach(world) as client:
        answers = [await client.get("/classify_runs"), await client.get("/nowhere"), await client.post("/parse_runs")]
        world.advance(minutes=-90)
        answers.append(await client.get("/classify_runs"))
    ids = [answer.headers["x-extend-request-id"] for answer in answers]
    assert len(set(ids)) == 4
    assert answers[1].json()["requestId"] == ids[1]
    dates = [parsedate_to_datetime(answer.headers["Date"]) for answer in answers]
    assert dates[0] - dates[3] == timedelta(minutes=90)


@pytest.mark.parametrize("kind", list(RunKind))
async def test_each_kind_is_read_cancelled_and_deleted(still, reach, kind):
    world = still()
    run_id = world.add(kind, age_minutes=90)
    async with reach(world) as client:
        path = f"{kind.path}/{run_id}"
        assert (await client.get(path)).text == world.text(run_id)
        assert (await client.post(f"{path}/cancel")).json()["status"] == "CANCELLED"
        second = await client.post(f"{path}/cancel")
        assert second.status_code == (200 if kind is RunKind.VERIFY else 400)
        assert (await client.delete(path)).json() == {"id": run_id}
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("empty", [200, 204])
async def test_the_response_to_a_cancel_may_be_empty(still, reach, empty):
    world = still(behaviour=Behaviour(cancel="empty", empty_status=empty))
    async with reach(world) as client:
        answer = await client.post(f"/classify_runs/{world.add()}/cancel")
    assert (answer.status_code, answer.content) == (empty, b"")


@pytest.mark.parametrize(
    ("errors", "body"),
    [
        ("flat", {"code": "NOT_FOUND", "retryable": False}),
        ("wrapped", {"error": {"code": "NOT_FOUND"}}),
        ("legacy", {"success": False, "error": "No classify_run"}),
        ("text", "No classify_run"),
        ("html", "<html>"),
        ("empty", ""),
    ],
)
async def test_errors_come_in_every_shape(still, reach, errors, body):
    async with reach(still(behaviour=Behaviour(errors=errors))) as client:
        answer = await client.get("/classify_runs/clr_none")
    assert answer.status_code == 404
    if isinstance(body, str):
        assert answer.text.startswith(body)
        assert bool(answer.text) is bool(body)
        return
    said = json.dumps(answer.json())
    assert all(name in said for name in body)
    assert set(answer.json()) >= set(body)


async def test_rate_limits_hold_for_each_category_alone(still, reach):
    world = still(requests_per_second=3, behaviour=Behaviour(retry_after="fraction"))
    run_id = world.add()
    async with reach(world) as client:
        reads = [await client.get(f"/classify_runs/{run_id}") for _ in range(5)]
        writes = [await client.post(f"/classify_runs/{run_id}/cancel") for _ in range(4)]
        world.advance(seconds=0.34)
        later = await client.get(f"/classify_runs/{run_id}")
    assert [answer.status_code for answer in reads] == [200] * 3 + [429] * 2
    assert [answer.status_code for answer in writes] == [200, 400, 400, 429]
    assert later.status_code == 200
    throttled = reads[3]
    assert throttled.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert throttled.json()["retryable"] is True
    assert throttled.headers["Retry-After"] == "0.33"
    assert Counter(entry.category for entry in world.journal if entry.status == 429) == {"GET": 2, "WRITE": 1}


async def test_the_journal_lists_requests_in_order(still, reach):
    world = still(troubles=["get:*:500-after"])
    run_id = world.add()
    async with reach(world) as client:
        await client.get("/classify_runs", params={"status": "PROCESSING"})
        await client.get(f"/classify_runs/{run_id}")
        await client.post(f"/classify_runs/{run_id}/cancel")
        await client.get("/classify_runs", headers={"Authorization": "Bearer wrong"})
    entries = [(entry.operation, entry.category, entry.run_id, entry.status, entry.acted) for entry in world.journal]
    assert entries == [
        ("list", "GET", None, 200, True),
        ("get", "GET", run_id, 500, True),
        ("cancel", "WRITE", run_id, 200, True),
        ("list", "GET", None, 401, False),
    ]
    assert world.journal[0].query == "status=PROCESSING"
    assert world.journal[1].trouble == "get:*:500-after"
    assert world.journal[2].body_length == len(world.text(run_id))
    assert world.journal[2].method == "POST"


async def test_a_created_run_lives_and_ends(still, reach):
    world = still(behaviour=Behaviour(created_run_seconds=20))
    order = {"file": {"url": "https://example.com/a/letter.pdf?sig=1"}, "metadata": {"a": 1}}
    async with reach(world) as client:
        answer = await client.post("/classify_runs", json={**order, "classifier": {"id": "cl_mine"}})
        assert answer.json()["status"] == "PROCESSING"
        assert answer.json()["classifier"]["id"] == "cl_mine"
        assert answer.json()["file"]["name"] == "letter.pdf"
        assert answer.json()["metadata"] == {"a": 1}
        world.advance(seconds=20)
        assert (await client.get(f"/classify_runs/{answer.json()['id']}")).json()["status"] == "PROCESSED"
    assert world.journal[0].category == "RUN"


async def test_a_created_run_may_take_an_inline_config_and_never_end(still, reach):
    world = still(behaviour=Behaviour(created_run_seconds=None))
    config = {"classifications": [{"id": "a", "type": "a", "description": "A."}]}
    async with reach(world) as client:
        order = {"file": {"text": "Dear Sir", "name": "letter.txt"}, "config": config}
        body = (await client.post("/classify_runs", json=order)).json()
        world.advance(minutes=600)
        assert (await client.get(f"/classify_runs/{body['id']}")).json()["status"] == "PROCESSING"
    assert body["classifier"] is None
    assert body["config"] == config
    assert body["file"]["name"] == "letter.txt"


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("/classify_runs", "not json"),
        ("/classify_runs", []),
        ("/classify_runs", {"config": {}}),
        ("/classify_runs", {"file": {"url": "https://example.com/a.pdf"}}),
        ("/classify_runs", {"file": {"text": "a"}, "config": {}, "metadata": "x"}),
        ("/workflow_runs", {"file": {"text": "a"}, "config": {}}),
    ],
)
async def test_an_order_that_makes_no_run_is_refused(still, reach, path, order):
    world = still()
    async with reach(world) as client:
        answer = await client.post(path, content=order if isinstance(order, str) else json.dumps(order))
    assert answer.status_code == 400
    assert not world.runs
