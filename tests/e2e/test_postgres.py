"""Several workers on one pool, and Prefect on PostgreSQL: sweeps at the same time harm neither each other nor a run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.sandbox import World, serve

KEYS = {"sk_acme": "ws_acme", "sk_globex": "ws_globex"}
STALE = 24
RATE = 20
SWEEPS = 3
DUE = timedelta(seconds=15)
"""Time for the workers to start."""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The address of a PostgreSQL of this test's own, as SQLAlchemy writes it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # It refuses to run as root, but Debian's package has made it a user. That user cannot enter pytest's folders.
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(f"/tmp/prefect-extend-ai-postgres-{os.getpid()}")
    folder.mkdir(mode=0o700)
    if as_postgres:
        shutil.chown(folder, "postgres", "postgres")
    from prefect_extend_ai.cli.local_prefect import free_port

    port, data = free_port(), folder / "data"
    initdb = [found[-1].with_name("initdb"), "-D", data, "-U", "prefect", "-A", "trust", "-E", "UTF8", "--no-sync"]
    with (tmp_path_factory.mktemp("postgres") / "log").open("w+b") as log:
        subprocess.run([*as_postgres, *initdb], check=True, cwd=folder, stdout=log, stderr=log)
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off".split()
        server = subprocess.Popen(
            [*as_postgres, found[-1], "-D", data, "-p", str(port), *options], cwd=folder, stdout=log, stderr=log
        )
        try:
            _wait(lambda: _answers(port) or server.poll() is not None, "PostgreSQL")
            assert server.poll() is None, f"PostgreSQL ended: {log.seek(0) or log.read()[-2000:]}"
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(20)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def prefect_on_postgres(postgres, tmp_path_factory):
    """A Prefect server on it, which this process uses too."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from prefect_extend_ai.cli.local_prefect import run_local_prefect

    home = tmp_path_factory.mktemp("prefect")
    profile = f'active = "postgres"\n[profiles.postgres]\nPREFECT_API_DATABASE_CONNECTION_URL = "{postgres}"\n'
    (home / "profiles.toml").write_text(profile)
    with run_local_prefect(home) as server, temporary_settings({PREFECT_API_URL: server.api_url}):
        assert not (home / "prefect.db").exists()
        yield server


class Meeting:
    """Lets sweeps go on only when all of them have come as far, so that they work at the same time for sure."""

    def __init__(self, expected):
        self.expected, self.came = expected, 0

    async def __call__(self, seconds):
        self.came += 1
        until = time.monotonic() + seconds
        while self.came < self.expected and time.monotonic() < until:  # noqa: ASYNC110  # an event would need the loop
            await asyncio.sleep(0.02)


@pytest.fixture
def sandbox():
    """Two workspaces with stale and healthy runs, where a sweep's first listing waits for those of the others."""
    # 25 seconds: a client waits for 30 at most.
    world = World(keys=KEYS, seed=4711, troubles=[f"list:*:slow=25@1-{SWEEPS}"], sleep=Meeting(SWEEPS))
    for workspace in KEYS.values():
        world.add(status="PROCESSED", age_minutes=1, workspace=workspace)
        for place in range(STALE):
            world.add(age_minutes=120 + place, workspace=workspace)
            world.add(age_minutes=place, workspace=workspace)
    with serve(world) as running:
        yield running


@contextlib.contextmanager
def worker(server, name, folder):
    """A worker process on the pool, which takes two flow runs at once: three need both workers."""
    environment = (
        os.environ | server.settings | {"PREFECT_HOME": str(folder / name), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    )
    command = ["worker", "start", "--pool", "sweeps", "--type", "process", "--name", name, "--limit", "2"]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *command],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


async def deploy(sandbox):
    """One deployment, with a schedule for each workspace that is due in a moment; its id, and acme's parameters."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
    from prefect.client.schemas.schedules import IntervalSchedule
    from prefect.types.entrypoint import EntrypointType

    from prefect_extend_ai.flows import cancel_stale_runs

    soon = datetime.now(UTC) + DUE
    schedules, parameters = [], {}
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="sweeps", type="process"))
    for key, workspace in KEYS.items():
        credentials = ExtendCredentials(
            api_key=key, workspace_id=workspace, base_url=sandbox.url, requests_per_second=RATE
        )
        block_id = await credentials.asave(workspace.removeprefix("ws_"), overwrite=True)
        parameters[workspace] = {"credentials": {"$ref": {"block_document_id": str(block_id)}}}
        hourly = IntervalSchedule(interval=timedelta(hours=1), anchor_date=soon)
        schedules.append(
            DeploymentScheduleCreate(schedule=hourly, active=True, parameters=parameters[workspace], slug=block_id.hex)
        )
    deployment = await cancel_stale_runs.ato_deployment(
        "sweeps",
        work_pool_name="sweeps",
        schedules=schedules,
        parameters=parameters["ws_acme"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return await deployment.aapply(), parameters["ws_acme"], soon


async def test_sweeps_of_two_workspaces_on_two_workers_lose_nothing(prefect_on_postgres, sandbox, tmp_path):
    deployment_id, acme, soon = await deploy(sandbox)
    with contextlib.ExitStack() as workers, httpx.Client(base_url=prefect_on_postgres.api_url, timeout=60) as api:
        for name in ("one", "two"):
            workers.enter_context(worker(prefect_on_postgres, name, tmp_path))
        asked = {
            "parameters": acme,
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": soon.isoformat()}},
        }

        def ask(path, json):
            return api.post(path, json=json).raise_for_status().json()

        def sweeps():
            due = {"expected_start_time": {"before_": (soon + timedelta(minutes=1)).isoformat()}}
            return ask("/flow_runs/filter", {"flow_runs": due})

        def ended():
            return [each["state_type"] in ENDED for each in sweeps()] == [True] * SWEEPS

        await asyncio.to_thread(ask, f"/deployments/{deployment_id}/create_flow_run", asked)
        # What the server's scheduler does within a minute anyway.
        await asyncio.to_thread(ask, f"/deployments/{deployment_id}/schedule", {"min_runs": 1, "max_runs": 1})
        await asyncio.to_thread(_wait, ended, "end of the sweeps")
        logs = "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
        assert [each["state_name"] for each in sweeps()] == ["Completed"] * SWEEPS, logs
        artifacts = ask("/artifacts/filter", {"limit": 200})

    world = sandbox.world
    assert world.sleep.came >= SWEEPS
    assert world.stale(minutes=60) == []
    cancelled = [run_id for run_id in world.runs if world.get(run_id).status == "CANCELLED"]
    assert len(cancelled) == STALE * len(KEYS)
    assert {world.cancels(run_id) for run_id in cancelled} == {1}
    # Only where two sweeps read a run at the same moment may both send a cancel.
    sent = [entry.run_id for entry in world.journal if entry.operation == "cancel"]
    assert set(sent) == set(cancelled)
    for run_id in cancelled:
        assert sent.count(run_id) <= (2 if world.get(run_id).workspace == "ws_acme" else 1)
    recorded = [
        value
        for artifact in artifacts
        if artifact["key"] is None
        for name, value in (artifact["metadata_"] or {}).items()
        if name.startswith("extend_run_")
    ]
    assert set(recorded) == set(cancelled)
    assert all(world.text(run_id)[:60] in "".join(_data_of(run_id, artifacts).split()) for run_id in cancelled)
    notes = [each for each in artifacts if (each["key"] or "").startswith("extend-write-ahead")]
    assert notes
    assert not [each for each in notes if each["type"] == "json"]


def _data_of(run_id, artifacts):
    return next(
        each["data"] for each in artifacts if each["key"] is None and run_id in (each["metadata_"] or {}).values()
    )


def _wait(until, what):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until():
        assert time.monotonic() < deadline, f"no {what} in time"
        time.sleep(0.2)


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
