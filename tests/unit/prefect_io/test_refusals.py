"""What Prefect refuses is called what it is, and what is too large is cut."""

from __future__ import annotations

import json
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest

from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.reports import write_report
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.history import History
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepReport

UP = "look whether it is up"


def store_that_gets(error):
    async def create_artifact(_):
        raise error

    return ArtifactStore(SimpleNamespace(api_url="https://prefect.example/api", create_artifact=create_artifact))


def status_error(status):
    request = httpx.Request("POST", "https://prefect.example/api/artifacts/")
    return httpx.HTTPStatusError(f"HTTP {status}", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, RecordRefusedError, "Prefect refuses it"),
        (401, RecordError, "check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"),
        (403, RecordError, "check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"),
        (413, RecordRefusedError, "it is too large for Prefect, or for a proxy before it"),
        (422, RecordRefusedError, "Prefect refuses it"),
        (429, RecordError, "Prefect limits how many requests it takes"),
        (500, RecordError, UP),
        (503, RecordError, UP),
    ],
)
async def test_a_status_of_prefects_says_what_to_do(status, kind, said):
    with pytest.raises(RecordError) as caught:
        await store_that_gets(status_error(status)).write(type="markdown", data="x")
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert (UP in str(caught.value)) is (said == UP)


async def test_no_response_says_to_look_whether_prefect_is_up():
    with pytest.raises(RecordError, match=UP):
        await store_that_gets(httpx.ConnectError("refused")).write(type="markdown", data="x")


class SmallPrefect:
    """A journal on a Prefect that accepts tables of a number of rows."""

    def __init__(self, rows):
        self.rows, self.tables, self.pages = rows, [], []
        self.scope = Scope(kind=RunKind.CLASSIFY, api_url="https://api.extend.ai")
        self.flow_run_id = None

    async def write(self, *, type, data, description, **_):  # noqa: A002
        if type != "table":
            self.pages.append(data)
        elif len(json.loads(data)) > self.rows:
            raise RecordRefusedError("HTTP 413")
        else:
            self.tables.append((json.loads(data), description))
        return SimpleNamespace(id=uuid4())


def report_of(runs):
    facts = {"outcome": Outcome.DEFERRED, "reason": "over the cap"}
    return SweepReport(limit_minutes=60).with_cancellations(
        Cancellation(run_id=f"clr_{number}", **facts) for number in range(runs)
    )


@pytest.mark.parametrize(("takes", "kept"), [(100, 100), (99, 50), (30, 25), (1, 1)])
async def test_a_table_that_is_too_large_is_cut(takes, kept):
    journal = SmallPrefect(takes)
    await write_report(journal, report_of(100), [], History())
    [(rows, description)] = journal.tables
    assert [row["run"] for row in rows] == [f"clr_{number}" for number in range(kept)]
    assert (f"the first {kept} of 100 runs" in description) is (kept < 100)
    assert len(journal.pages) == 1


async def test_a_table_that_is_longer_than_its_own_limit_says_so():
    journal = SmallPrefect(10_000)
    await write_report(journal, report_of(6_000), [], History())
    [(rows, description)] = journal.tables
    assert len(rows) < 6_000
    assert description.endswith(f"(the first {len(rows):,} of 6,000 runs: the table holds no more)")


async def test_a_table_that_is_refused_whatever_its_size_is_an_error():
    with pytest.raises(RecordRefusedError):
        await write_report(SmallPrefect(0), report_of(3), [], History())
