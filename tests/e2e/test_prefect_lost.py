"""No record, no cancel: Prefect's API refuses writes from the start, or from some write on."""

from __future__ import annotations

import json
import re
import time

import httpx
import pytest

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.flows import cancel_stale_runs, reporting
from prefect_extend_ai.sandbox import serve

IMPATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "0", "RECORD_PATIENCE": "2"}
AWAY_SECONDS = 4


def is_write(request):
    return request.path.startswith("/artifacts/") and (
        request.method == "DELETE" or (request.method == "POST" and request.path == "/artifacts/")
    )


@pytest.mark.parametrize("status", [500, 403])
def test_a_prefect_that_takes_no_intent_means_no_cancel(prefect_server, proxied, sweeping, stuck, status):
    with serve(stuck(6)) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = lambda request: status if is_write(request) else None
        sweep = sweeping(sandbox.url, api_url=prefect.url, **IMPATIENT)
        assert sweep.wait() == 1
        assert "failed: " in sweep.said
        # Sweeps of other tests may have left something pending.
        assert re.search(
            r"6 deferred(; \d+ still pending from earlier sweeps)?\. Stopped early: Prefect's API at ", sweep.said
        )
        assert [entry for entry in sandbox.world.journal if entry.operation == "cancel"] == []


def test_a_prefect_that_cannot_be_read_means_no_cancel(prefect_server, proxied, sweeping, stuck):
    with serve(stuck(6)) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = lambda request: 503 if request.path == "/artifacts/filter" else None
        sweep = sweeping(sandbox.url, api_url=prefect.url, **IMPATIENT)
        assert sweep.wait() == 1
        assert "records cannot be read" in sweep.said
        assert [entry for entry in sandbox.world.journal if entry.operation == "cancel"] == []


def test_a_run_too_large_for_one_artifact_is_recorded_in_parts(prefect_server, proxied, sweeping, artifacts, stuck):
    world = stuck(2)
    large = world.add(age_minutes=120, metadata={"pages": ['1.50 "``` \u202e' * 9] * 8_000})
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = lambda request: 413 if len(request.body) > 1_000_000 else None
        sweep = sweeping(sandbox.url, api_url=prefect.url)
        assert sweep.wait() == 0, sweep.said
        assert artifacts.open_intents(sandbox.url) == []
        records = artifacts.records()
        assert {run_id for run_id in world.runs if run_id in records} == {
            run_id for run_id in world.runs if world.get(run_id).status == "CANCELLED"
        } - {large}
        (record,) = artifacts.holding(large)
        parts = [artifacts.one(found) for found in re.findall(r"artifact ([0-9a-f-]{36})\]", record["data"])]
        assert len(parts) > 4
        strings = [re.search(r"`{3,}text\n(.*)\n`{3,}$", part["data"])[1] for part in parts]
        assert json.loads("".join(map(json.loads, strings))) == world.full(large)


def test_a_table_too_large_for_a_proxy_is_cut(prefect_server, proxied, sweeping, artifacts, stuck):
    world = stuck(4_500)
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        # What nginx takes where nobody has configured it.
        prefect.before = lambda request: 413 if len(request.body) > 1_000_000 else None
        sweep = sweeping(sandbox.url, "sweep", '{"max_cancellations": 1}', api_url=prefect.url)
        assert sweep.wait() == 0, sweep.said
    [cancelled] = {entry.run_id for entry in world.journal if entry.operation == "cancel"}
    [record] = artifacts.holding(cancelled)
    [table] = artifacts.all(flow_run_id={"any_": [record["flow_run_id"]]}, type={"any_": ["table"]})
    rows = json.loads(table["data"])
    assert 1_000 < len(rows) < 4_500
    assert rows[0]["run"] == cancelled
    assert table["description"].endswith(f"(the first {len(rows):,} of 4,500 runs: the table holds no more)")


def test_a_prefect_that_is_busy_is_asked_again_a_moment_later(prefect_server, proxied, sweeping, artifacts, stuck):
    asked = {}

    def busy(request):
        """Refuse each write twice, as a server on SQLite does that is busy with others."""
        if not is_write(request):
            return None
        write = (request.path, request.body)
        asked.setdefault(write, []).append(time.monotonic())
        return 503 if len(asked[write]) <= 2 else None

    world = stuck(2)
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = busy
        sweep = sweeping(sandbox.url, api_url=prefect.url)
        assert sweep.wait() == 0, sweep.said
        assert artifacts.holds_each_once(world)
        assert artifacts.open_intents(sandbox.url) == []
    # Prefect's client alone would retry after 2 and 4 seconds more; this server may refuse requests on its own too.
    assert len(asked) >= 6
    assert all(len(times) >= 3 and times[2] - times[0] < 2 for times in asked.values())


async def test_a_prefect_lost_midway_stops_cancels_and_loses_no_record(
    prefect_server, proxied, sweeping, artifacts, stuck
):
    writes = []

    def refuse_from_the_fourth(request):
        if is_write(request):
            writes.append(request)
            if len(writes) >= 4:
                refused.setdefault("at", len(cancels()))
                return 500
        return None

    def cancels():
        return [entry for entry in world.journal if entry.operation == "cancel"]

    refused = {}
    world = stuck(40)
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = refuse_from_the_fourth
        sweep = sweeping(sandbox.url, api_url=prefect.url, rate=20, **IMPATIENT)
        assert sweep.wait() == 1
        assert "still to be recorded by the next sweep" in sweep.said
        # What was between its check and its cancel may still have gone out.
        assert len(cancels()) <= refused["at"] + 25
        assert len(cancels()) < 40
        cancelled = {entry.run_id for entry in cancels()}
        recorded = set(artifacts.records()) & cancelled
        assert len(recorded) == 2
        (left,) = artifacts.open_intents(sandbox.url)
        assert cancelled - recorded <= set(left)

        prefect.before = lambda _: None
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)
        report = await cancel_stale_runs(credentials)
        assert len(report.recovered) == len(cancelled) - len(recorded)
        assert world.stale() == []
        assert artifacts.holds_each_once(world)
        assert artifacts.open_intents(sandbox.url) == []


@pytest.mark.parametrize(
    "outage",
    [
        pytest.param((503, "5", r"Cancelled 40 of 40 stale classify runs\n"), marks=pytest.mark.nightly),
        pytest.param((429, "5", r"Cancelled 40 of 40 stale classify runs\n"), marks=pytest.mark.nightly),
        ("refused", "5", r"Cancelled 40 of 40 stale classify runs\n"),
        # Prefect's client gives up at once: no further cancel is sent, and what was cancelled is recorded later.
        (503, "0", r"Cancelled \d+ of 40 stale classify runs; \d+ deferred\n"),
    ],
    ids=["unavailable", "throttled", "no connection", "no retries"],
)
def test_a_sweep_that_waited_and_recorded_all_is_completed(prefect_server, proxied, sweeping, kept, outage):
    artifacts, stuck = kept
    way, retries, headline = outage
    writes, away, cancelled, turned_away = [], [], [], []

    def away_from_the_fourth(request):
        """Take Prefect away for some seconds, in the middle of the sweep."""
        writes.extend([request] if is_write(request) else [])
        if len(writes) >= 4 and not away:
            away.append(time.monotonic() + AWAY_SECONDS)
            cancelled.extend(entry for entry in world.journal if entry.operation == "cancel")
            if way == "refused":
                prefect.refuse(AWAY_SECONDS)
        # Without its retries Prefect's engine would not outlive the loss of all else.
        if away and time.monotonic() < away[0] and (retries != "0" or is_write(request)):
            turned_away.append(request)
            return 503 if way == "refused" else way
        return None

    world = stuck(40)
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = away_from_the_fourth
        sweep = sweeping(sandbox.url, api_url=prefect.url, rate=20, PREFECT_CLIENT_MAX_RETRIES=retries)
        assert sweep.wait() == 0, sweep.said
        assert re.search(f"^done: {headline}", sweep.said, re.MULTILINE)
        assert 0 < len(cancelled) < 40
        assert len(turned_away) == 1 if way == "refused" else turned_away
        assert artifacts.holds_each_once(world)
        assert artifacts.open_intents(sandbox.url) == []
    [record] = artifacts.holding(cancelled[0].run_id)
    with httpx.Client(base_url=prefect_server.api_url) as http:
        state = http.get(f"/flow_runs/{record['flow_run_id']}").raise_for_status().json()["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed")


async def test_a_report_that_cannot_be_written_is_in_the_event_too(prefect_server, stuck, monkeypatch):
    emitted = []

    async def unwritten(*_):
        raise RecordError("Prefect is away")

    monkeypatch.setattr(reporting, "write_report", unwritten)
    monkeypatch.setattr(reporting, "emit_sweep", lambda report, *_, **__: emitted.append(report))
    with serve(stuck(2, troubles=["cancel:*:401@1-", "list:*:401@2-"])) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url)
        state = await cancel_stale_runs(credentials, return_state=True)
    assert state.is_failed()
    (report,) = emitted
    assert "401" in report.trouble.partition("; the report could not be written: ")[0]
    assert report.trouble.endswith("Prefect is away")
    assert report.headline in state.message
