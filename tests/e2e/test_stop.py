"""Stopping a sweep: no further cancel, and what was cancelled is recorded and reported."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx
import pytest

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.sandbox import serve

RATE = 5
IN_HAND_SECONDS = 3
"""Runs between their check and their cancel when the sweep is stopped wait for their turn no longer than that."""


@pytest.fixture
def sandbox(stuck):
    with serve(stuck(60, requests_per_second=RATE)) as running:
        yield running


def cancels(sandbox):
    return [entry for entry in sandbox.world.journal if entry.operation == "cancel"]


def check_kept(sandbox, artifacts, stopped_at):
    """What every stopped sweep owes."""
    sent = cancels(sandbox)
    assert 5 <= len(sent) < 30
    assert max(entry.time for entry in sent).timestamp() < stopped_at + IN_HAND_SECONDS
    records = artifacts.records()
    assert all(records.get(entry.run_id) == [sandbox.world.full(entry.run_id)] for entry in sent)
    assert artifacts.open_intents(sandbox.url) == []


def test_sigterm_in_the_middle_of_a_sweep_stops_it_gently(sandbox, sweeping, artifacts):
    sweep = sweeping(sandbox.url, rate=RATE)
    sweep.wait_until("fifth cancel", lambda: len(cancels(sandbox)) >= 5)
    stopped_at = datetime.now(UTC).timestamp()
    sweep.process.send_signal(signal.SIGTERM)
    sweep.wait()
    check_kept(sandbox, artifacts, stopped_at)
    assert "Stopping: no further cancel is sent" in sweep.said
    reports = artifacts.keyed("extend-sweep-classify")
    sent = len(cancels(sandbox))
    assert any(
        f"Cancelled {sent} of 60 stale classify runs; {60 - sent} deferred" in each["description"] for each in reports
    )


async def test_a_flow_run_cancelled_over_the_api_ends_as_cancelled(prefect_server, sandbox, sweeping, artifacts):
    credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=RATE)
    block_id = await credentials.save("stopped", overwrite=True)
    runner = sweeping(sandbox.url, "serve", "stopped", PREFECT_RUNNER_POLL_FREQUENCY="1")
    async with httpx.AsyncClient(base_url=prefect_server.api_url, timeout=30) as http:

        async def ask(method, path, body=None):
            # As Prefect's own client does where another write holds SQLite.
            for pause in (0.2, 0.5, 1, 2, 4):
                answer = await http.request(method, path, json=body)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    break
                await asyncio.sleep(pause)
            return answer

        async def until(what, ready, seconds=300):
            deadline = time.monotonic() + seconds
            while not (found := await ready()):
                assert runner.process.poll() is None, runner.said
                assert time.monotonic() < deadline, f"no {what}: {runner.said}"
                await asyncio.sleep(0.2)
            return found

        async def deployment():
            answer = await ask("GET", "/deployments/name/cancel-stale-runs/stopped")
            return answer.json() if answer.is_success else None

        async def fifth_cancel():
            return len(cancels(sandbox)) >= 5

        async def cancelled():
            state = (await ask("GET", f"/flow_runs/{flow_run['id']}")).json()["state"]
            return state if state["type"] == "CANCELLED" else None

        deployed = await until("deployment", deployment)
        parameters = {"credentials": {"$ref": {"block_document_id": str(block_id)}}}
        created = await ask(
            "POST",
            f"/deployments/{deployed['id']}/create_flow_run",
            {"parameters": parameters, "state": {"type": "SCHEDULED"}},
        )
        flow_run = created.raise_for_status().json()
        await until("fifth cancel", fifth_cancel)
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        (await ask("POST", f"/flow_runs/{flow_run['id']}/set_state", cancelling)).raise_for_status()
        stopping_at = datetime.now(UTC).timestamp()
        state = await until("end as cancelled", cancelled)
    assert state["name"] == "Cancelled"
    # The runner looks for runs to cancel now and then, so the signal itself came a little later.
    check_kept(sandbox, artifacts, stopping_at + 5)
    assert artifacts.keyed("extend-sweep-classify", flow_run_id={"any_": [flow_run["id"]]})


@contextlib.contextmanager
def execute(flow_run_id, prefect_server, folder):
    log = folder / "execute.log"
    settings = prefect_server.settings | {"PREFECT_HOME": str(folder / "home")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "flow-run", "execute", str(flow_run_id)],
            env=os.environ | settings | {"PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": "reschedule"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
async def executed(prefect_server, sandbox, tmp_path):
    """A flow run in a separate process, as in a pod: its id, the process, and where its log is."""
    from prefect.client.orchestration import get_client
    from prefect.states import Pending
    from prefect.types.entrypoint import EntrypointType

    from prefect_extend_ai.flows import cancel_stale_runs

    credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=RATE)
    block_id = await credentials.save("evicted", overwrite=True)
    deployment = await cancel_stale_runs.ato_deployment("evicted", entrypoint_type=EntrypointType.MODULE_PATH)
    parameters = {"credentials": {"$ref": {"block_document_id": str(block_id)}}}
    async with get_client() as client:
        flow_run = await client.create_flow_run_from_deployment(
            await deployment.aapply(), parameters=parameters, state=Pending()
        )
    with execute(flow_run.id, prefect_server, tmp_path) as (process, log):
        yield flow_run.id, process, log


async def test_an_evicted_pod_stops_gently_and_its_run_is_rescheduled(executed, sandbox, artifacts):
    flow_run_id, process, log = executed
    deadline = time.monotonic() + 300
    while len(cancels(sandbox)) < 5:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        await asyncio.sleep(0.05)
    stopped_at = datetime.now(UTC).timestamp()
    process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(process.wait, 60)
    said = log.read_text()
    assert code == 0, said
    assert "Flow run successfully rescheduled" in said
    assert "did not acknowledge" not in said
    check_kept(sandbox, artifacts, stopped_at + 1)
    assert artifacts.keyed("extend-sweep-classify", flow_run_id={"any_": [str(flow_run_id)]})
    async with httpx.AsyncClient(base_url=artifacts.api_url, timeout=30) as http:
        state = (await http.get(f"/flow_runs/{flow_run_id}")).json()["state"]
    assert (state["type"], state["name"]) == ("SCHEDULED", "AwaitingRetry")
