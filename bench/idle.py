"""`python -m bench.idle`: what sweeps that find nothing cost a Prefect server, and how many of them one server carries.

The sweeps run as in production: flow runs of a deployment, executed by a worker. Counted is the processor time of the
server, and of its PostgreSQL where it has one, beyond what both need while nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.cli.local_prefect import LocalPrefect, free_port, run_local_prefect
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sandbox import World, serve

app = App(help="What an idle sweep costs a Prefect server.", version_flags=[])

INTERVAL_SECONDS = 15 * 60
BUSY = 0.5
"""The share of one core that a server may be busy with sweeps: it is one process, and answers others too."""
QUIET_SECONDS = 30
LATE_SECONDS = 10
"""Events are written some seconds after they were emitted."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sweep cost: seconds of the server's and of the database's processors, KiB on disk."""

    server: float
    database: float
    kib: float

    @property
    def pairs(self) -> int:
        """How many pairs of workspace and kind one server carries, each swept every 15 minutes."""
        return int(INTERVAL_SECONDS * BUSY / self.server)


@app.default
def main(*, sweeps: int = 30, limit: int = 2, postgres: bool = True) -> None:
    """Measure, and print a line for each database.

    Args:
        sweeps: How many are measured.
        limit: How many the worker runs at a time.
        postgres: Measure PostgreSQL too, where it is installed.
    """
    sys.stdout.write(
        "| database | server CPU s | database CPU s | KiB | pairs at 15 minutes |\n|---|---|---|---|---|\n"
    )
    for name in ("SQLite", "PostgreSQL") if postgres else ("SQLite",):
        cost = measure(name, sweeps, limit)
        row = f"| {name} | {cost.server:.2f} | {cost.database:.2f} | {cost.kib:.0f} | {cost.pairs:,} |"
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()


def measure(database: str, sweeps: int, limit: int) -> Cost:
    """What one sweep costs a server on this database."""
    with tempfile.TemporaryDirectory(prefix="prefect-extend-ai-bench-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        postgres = stack.enter_context(_postgres()) if database == "PostgreSQL" else None
        if postgres:
            profile = f'active = "p"\n[profiles.p]\nPREFECT_API_DATABASE_CONNECTION_URL = "{postgres.address}"\n'
            (home / "profiles.toml").write_text(profile)
        server = stack.enter_context(run_local_prefect(home))
        os.environ |= server.settings
        stack.enter_context(temporary_settings({PREFECT_API_URL: server.api_url}))
        world = World(seed=1)
        world.add(status="PROCESSED", age_minutes=1)
        for minutes in range(30):
            world.add(age_minutes=minutes)
        sandbox = stack.enter_context(serve(world))
        stack.enter_context(_worker(limit))
        return asyncio.run(_measure(Used(server, postgres), sandbox.url, sweeps))


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running PostgreSQL."""

    address: str
    pid: int


@dataclass(frozen=True, slots=True)
class Used:
    """What a server, and its PostgreSQL where it has one, have used so far."""

    prefect: LocalPrefect
    postgres: Postgres | None

    def seconds(self) -> tuple[float, float]:
        """Of processors."""
        port = self.prefect.url.rpartition(":")[2]
        server = min(pid for pid, words in _commands() if "local_server" in words and port in words.split())
        return _seconds(server), _seconds(self.postgres.pid) if self.postgres else 0.0

    async def size(self) -> int:
        """Bytes on disk."""
        if self.postgres is None:
            with contextlib.closing(
                sqlite3.connect(f"file:{self.prefect.home / 'prefect.db'}?mode=ro", uri=True)
            ) as base:
                pages, free, size = (
                    int(base.execute(f"PRAGMA {name}").fetchone()[0])
                    for name in ("page_count", "freelist_count", "page_size")
                )
            return (pages - free) * size
        import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415  # Prefect's own, where there is a PostgreSQL

        connection = await asyncpg.connect(self.postgres.address.replace("+asyncpg", ""))
        try:
            return int(await connection.fetchval("SELECT pg_database_size('postgres')"))
        finally:
            await connection.close()


async def _measure(used: Used, extend: str, sweeps: int) -> Cost:
    await ExtendCredentials(api_key="sk_sandbox", base_url=extend).asave("bench", overwrite=True)
    async with get_client() as client:
        # The worker, which has just been started, makes the pool.
        while not await client.read_work_pools():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(1)
        deployment = await cancel_stale_runs.ato_deployment(
            "bench",
            parameters={"credentials": {"$ref": {"block_document_slug": "extend-credentials/bench"}}},
            work_pool_name="bench",
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        deployment_id = await deployment.aapply()
        await _sweep(client, deployment_id, 2)
        await asyncio.sleep(LATE_SECONDS)
        start = used.seconds()
        await asyncio.sleep(QUIET_SECONDS)
        before, size, begun = used.seconds(), await used.size(), time.monotonic()
        await _sweep(client, deployment_id, sweeps)
        await asyncio.sleep(LATE_SECONDS)
        after, took = used.seconds(), time.monotonic() - begun
        grown = await used.size() - size
    server, database = (
        (after[place] - before[place] - (before[place] - start[place]) / QUIET_SECONDS * took) / sweeps
        for place in range(2)
    )
    return Cost(server, database, grown / sweeps / 1024)


async def _sweep(client: PrefectClient, deployment_id: object, count: int) -> None:
    made = [(await client.create_flow_run_from_deployment(deployment_id)).id for _ in range(count)]  # type: ignore[arg-type]
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=made))
    while True:
        found = await client.read_flow_runs(flow_run_filter=wanted, limit=200)
        if all(each.state is not None and each.state.is_final() for each in found):
            if not all(each.state is not None and each.state.is_completed() for each in found):
                raise SystemExit("a sweep did not complete")
            return
        await asyncio.sleep(2)


def _commands() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _seconds(pid: int) -> float:
    """Of a process and of those that it has waited for."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return used + sum(_seconds(int(child)) for child in children)
    return 0.0


@contextlib.contextmanager
def _worker(limit: int) -> Iterator[None]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bench", "--type", "process"]
    command += ["--limit", str(limit)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            yield
        finally:
            # It has nothing to finish, and one that was started in the background ignores SIGTERM.
            worker.kill()


@contextlib.contextmanager
def _postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this bench's own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise SystemExit("no PostgreSQL: apt-get install postgresql")
    # It does not run as root; Debian's package has made it a user.
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="prefect-extend-ai-bench-postgres-"))
    if as_postgres:
        shutil.chown(folder, "postgres", "postgres")
    port, data = free_port(), folder / "data"
    initdb = [found[-1].with_name("initdb"), "-D", data, "-U", "prefect", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*as_postgres, *map(str, initdb)], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}".split()
    command = [*as_postgres, str(found[-1]), "-D", str(data), "-p", str(port), *options]
    database = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(3)
        yield Postgres(f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres", database.pid)
    finally:
        database.terminate()
        database.wait(20)
        shutil.rmtree(folder)


if __name__ == "__main__":
    app()
