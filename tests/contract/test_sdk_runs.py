"""Everything that the vendor's SDK can do with runs works against the sandbox, and its models have the facts."""

from __future__ import annotations

import pytest
from extend_ai.core.api_error import ApiError
from extend_ai.errors import BadRequestError, NotFoundError, TooManyRequestsError, UnauthorizedError
from pydantic import BaseModel

from prefect_extend_ai.runs import RunKind


def assert_known(value: object) -> None:
    """Nothing that the SDK requires is missing, and nothing is sent that it does not know, at any depth."""
    if isinstance(value, list):
        for each in value:
            assert_known(each)
    elif isinstance(value, BaseModel):
        required = {name for name, field in type(value).model_fields.items() if field.is_required()}
        assert not value.model_extra, type(value)
        assert not required - value.model_fields_set, type(value)
        for name in type(value).model_fields:
            assert_known(getattr(value, name))


async def test_a_run_is_retrieved_with_all_its_facts(sdk, world, kind):
    run_id = world.add(kind, "PROCESSED", age_minutes=90, metadata={"customer": "c-1"}, processor=f"{kind}_p")
    run = await sdk(kind, "retrieve", run_id)
    assert type(run).__name__ == f"{kind.capitalize()}Run"
    assert (run.id, run.object, run.status.value) == (run_id, kind.object_name, "PROCESSED")
    assert run.metadata == {"customer": "c-1"}
    record = world.get(run_id)
    assert (run.files[0] if kind is RunKind.WORKFLOW else run.file).name == "document.pdf"
    assert run.usage.credits % 1 == 0.5
    if kind.dated:
        assert abs((run.updated_at - record.updated_at).total_seconds()) < 0.001
        assert abs((run.created_at - record.created_at).total_seconds()) < 0.001
    if kind.processor:
        assert getattr(run, kind.processor).id == f"{kind}_p"
    if kind is not RunKind.WORKFLOW:
        assert run.output is not None
    assert_known(run)


async def test_a_listing_is_paged_through_and_has_all_facts(sdk, world, kind):
    ids = [world.add(kind, age_minutes=minutes) for minutes in range(25)]
    world.add(kind, "PROCESSED")
    order = {"sort_by": "updatedAt", "sort_dir": "asc"} if kind.sortable else {}
    found, token, sizes = [], {}, []
    while True:
        page = await sdk(kind, "list", status="PROCESSING", max_page_size=10, **order, **token)
        sizes.append(len(page.data))
        found += page.data
        if not page.next_page_token:
            break
        token = {"next_page_token": page.next_page_token}
    assert sizes == [10, 10, 5]
    assert [run.id for run in found] == (ids[::-1] if kind.sortable else ids)
    for run in found:
        assert type(run).__name__ == f"{kind.capitalize()}RunSummary"
        assert run.status.value == "PROCESSING"
        assert run.created_at is not None
        assert_known(run)


async def test_filters_keep_to_their_runs(sdk, world, kind):
    for minutes in range(5):
        world.add(kind, age_minutes=minutes)
    named = world.add(kind, file_name="the odd one.pdf", processor="p_odd", batch_id="b_odd", source="STUDIO")
    asked = [{"file_name_contains": "ODD"}]
    asked += [{f"{kind.processor}_id": "p_odd"}] if kind.processor else []
    asked += [{"batch_id": "b_odd"}] if kind is not RunKind.VERIFY else []
    asked += [{"source": "STUDIO"}] if kind is not RunKind.WORKFLOW else []
    for filters in asked:
        assert [run.id for run in (await sdk(kind, "list", **filters)).data] == [named]
    assert len((await sdk(kind, "list", file_name_contains="nowhere")).data) == 0


async def test_a_run_in_progress_is_cancelled(sdk, world, kind):
    run_id = world.add(kind, age_minutes=90)
    run = await sdk(kind, "cancel", run_id)
    assert str(run.status.value) == "CANCELLED"
    assert world.get(run_id).status == "CANCELLED"
    assert (await sdk(kind, "retrieve", run_id)).id == run_id


async def test_a_second_cancel_is_refused_except_for_verify_runs(sdk, world, kind):
    run_id = world.add(kind)
    await sdk(kind, "cancel", run_id)
    if kind is RunKind.VERIFY:
        assert (await sdk(kind, "cancel", run_id)).status.value == "CANCELLED"
        return
    with pytest.raises(BadRequestError) as refusal:
        await sdk(kind, "cancel", run_id)
    assert refusal.value.body["code"] == "INVALID_REQUEST"
    assert world.cancels(run_id) == 1


@pytest.mark.parametrize("status", ["PENDING", "PROCESSED", "FAILED"])
async def test_only_what_is_documented_as_cancellable_is_cancelled(sdk, world, kind, status):
    run_id = world.add(kind, status)
    if status in kind.cancellable:
        assert (await sdk(kind, "cancel", run_id)).status.value == "CANCELLED"
    elif kind is RunKind.VERIFY and status in kind.terminal:
        assert (await sdk(kind, "cancel", run_id)).status.value == status
    else:
        with pytest.raises(BadRequestError):
            await sdk(kind, "cancel", run_id)
        assert world.get(run_id).status == status


async def test_an_unknown_run_is_not_found(sdk, world, kind):
    for method in ("retrieve", "cancel", "delete"):
        with pytest.raises(NotFoundError) as missing:
            await sdk(kind, method, f"{kind.id_prefix}nobody")
        assert missing.value.headers["x-extend-request-id"] == missing.value.body["requestId"]


async def test_a_deleted_run_is_gone(sdk, world, kind):
    run_id = world.add(kind, "PROCESSED")
    assert (await sdk(kind, "delete", run_id)).id == run_id
    with pytest.raises(NotFoundError):
        await sdk(kind, "retrieve", run_id)


async def test_a_run_is_created_and_in_progress_at_once(sdk, world, kind):
    order = {"file": {"url": "https://example.com/in/letter.pdf"}, "metadata": {"a": "b"}}
    if kind.processor:
        order[kind.processor] = {"id": f"{kind}_p"}
    run = await sdk(kind, "create", **order)
    assert run.status.value == "PROCESSING"
    assert run.metadata == {"a": "b"}
    assert world.get(run.id).file_name == "letter.pdf"


async def test_a_failed_run_says_why(sdk, world, kind):
    run = await sdk(kind, "retrieve", world.add(kind, "FAILED", failure_reason="INTERNAL_ERROR"))
    assert (run.status.value, run.failure_reason) == ("FAILED", "INTERNAL_ERROR")
    assert run.failure_message


async def test_a_wrong_key_is_unauthorized(sdk, world, kind):
    sdk.connect("sk_wrong")
    with pytest.raises(UnauthorizedError) as refused:
        await sdk(kind, "list")
    assert refused.value.body["code"] == "UNAUTHORIZED"


async def test_an_organization_key_must_name_its_workspace(sdk, world):
    run_id = world.add()
    sdk.connect("sk_org")
    with pytest.raises(BadRequestError):
        await sdk(RunKind.CLASSIFY, "retrieve", run_id)
    assert (await sdk(RunKind.CLASSIFY, "retrieve", run_id, extend_workspace_id="ws_sandbox")).id == run_id
    with pytest.raises(NotFoundError):
        await sdk(RunKind.CLASSIFY, "retrieve", run_id, extend_workspace_id="ws_other")


async def test_an_old_version_is_refused(sdk, world):
    sdk.connect(version="2025-04-21")
    with pytest.raises(BadRequestError):
        await sdk(RunKind.CLASSIFY, "list")


async def test_errors_on_the_way_are_the_sdks_own(sdk, world):
    run_id = world.add()
    world.troubles.add("get:*:429=1", "get:*:503@2", "get:*:html@3")
    with pytest.raises(TooManyRequestsError) as throttled:
        await sdk(RunKind.CLASSIFY, "retrieve", run_id)
    assert throttled.value.headers["retry-after"] == "1"
    for status in (503, 200):
        with pytest.raises(ApiError) as odd:
            await sdk(RunKind.CLASSIFY, "retrieve", run_id)
        assert odd.value.status_code == status
