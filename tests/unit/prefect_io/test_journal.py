"""The journal in Prefect's artifacts, where Prefect answers as it should not, or holds much."""

from __future__ import annotations

import json
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import Artifact

from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.prefect_io import PrefectJournal
from prefect_extend_ai.prefect_io.records import INTENT_META, RECORDS_PAGE, RUN_META
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded, Scope

SCOPE = Scope(kind=RunKind.CLASSIFY, api_url="https://api.extend.ai")


async def page_of_a_proxy(*_, **__):
    """What a client makes of a proxy's page for people: 200, and no JSON."""
    json.loads("<html>Please sign in</html>")


async def test_a_response_that_is_not_json_is_a_record_error():
    client = SimpleNamespace(
        api_url="https://prefect.example.com/api",
        create_artifact=page_of_a_proxy,
        read_artifacts=page_of_a_proxy,
        read_flow_run=page_of_a_proxy,
    )
    journal = PrefectJournal(client, SCOPE, flow_run_id=uuid4())
    for asked in (journal.log(["clr_1"]), journal.pending()):
        with pytest.raises(RecordError, match=r"https://prefect\.example\.com/api failed") as caught:
            await asked
        assert not isinstance(caught.value, RecordRefusedError)
    assert await journal.flow_runs.is_being_cancelled(uuid4()) is False


@pytest.mark.parametrize("kept", [0, 1, RECORDS_PAGE, 3 * RECORDS_PAGE, 3 * RECORDS_PAGE + 1])
async def test_records_are_read_in_pages_and_all_are_found(kept):
    intent = CancelIntent(id=uuid4(), scope=SCOPE, run_ids=[], opened_at="2026-03-01T12:00:00Z", flow_run_id=uuid4())
    artifacts = [
        Artifact(id=uuid4(), data="", metadata_={INTENT_META: str(intent.id), f"{RUN_META}0": f"clr_{number}"})
        for number in range(kept)
    ]
    elsewhere = {INTENT_META: "another note", f"{RUN_META}0": "clr_x"}
    others = [Artifact(id=uuid4(), metadata_=metadata) for metadata in (None, elsewhere)]
    stored = others + artifacts

    async def read_artifacts(*, limit, offset, **_):
        assert limit == RECORDS_PAGE
        return stored[offset : offset + limit]

    journal = PrefectJournal(SimpleNamespace(read_artifacts=read_artifacts), SCOPE, flow_run_id=None)
    assert await journal.recorded(intent) == {
        f"clr_{number}": Recorded(artifact_id=each.id) for number, each in enumerate(artifacts)
    }
