"""Who is measured: the sweep, and what people would write without it.

Each runs in a fresh process, as a flow run of a worker does: `python -m bench.contenders NAME JOB` does one job, and
prints how long it took and how much memory the process ever had.
"""

# No `from __future__ import annotations` here: there are flows in it.
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from extend_ai import AsyncExtend
from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import SecretStr

from prefect_extend_ai.credentials import API_VERSION, ExtendCredentials
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.flows.runner import concurrency
from prefect_extend_ai.sandbox import API_KEY
from prefect_extend_ai.sweep.rules.staleness import StalePolicy

__all__ = ["CONTENDERS", "Job", "Took", "measure"]

NO_LIMIT = 100_000
"""Requests a second: more than anything here can send."""
LIMIT_MINUTES = 60
OLDEST: dict[str, Any] = {"status": "PROCESSING", "sort_by": "updatedAt", "sort_dir": "asc", "max_page_size": 100}
"""What the SDK is to list."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender has to do: cancel every stale run at `url`, at `rate` requests a second at most."""

    url: str
    rate: float | None = None

    @property
    def at_once(self) -> int:
        """How many runs the sweep works on at once; everybody gets as many."""
        return concurrency(self.rate or NO_LIMIT)


@dataclass(frozen=True, slots=True)
class Took:
    """What the job took, the process's start and imports apart.

    Attributes:
        seconds: by the clock on the wall.
        cpu_seconds: of this process; on a busy machine the better measure of what is ours.
        peak_mb: the most memory that the process ever had, imports included.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(contender: str, job: Job) -> Took:
    """Let a contender do a job in a separate process. Raises RuntimeError, with what it said, where it fails."""
    command = [sys.executable, "-m", "bench.contenders", contender, json.dumps(asdict(job))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{contender} failed: {done.stderr[-3000:]}")
    return Took(**json.loads(done.stdout.splitlines()[-1]))


async def sweep(job: Job) -> None:
    """This project: the whole flow, records and report included."""
    credentials = ExtendCredentials(
        api_key=SecretStr(API_KEY), base_url=job.url, requests_per_second=job.rate or NO_LIMIT
    )
    policy = StalePolicy(max_cancellations=1_000_000, refuse_above=1_000_000, max_sweep_minutes=120)
    await cancel_stale_runs(credentials, LIMIT_MINUTES, policy=policy)


async def warm_sweep(job: Job) -> None:
    """The same in a process that has swept before."""
    await sweep(job)


async def nothing(job: Job) -> None:
    """A sweep of a kind that has no runs."""
    credentials = ExtendCredentials(api_key=SecretStr(API_KEY), base_url=job.url)
    await cancel_stale_runs(credentials, kind="split")


async def bare_httpx(job: Job) -> None:
    """A loop over httpx: a GET and a POST for each run, nothing recorded."""
    async with _http(job) as http:

        async def cancel(run_id: str) -> None:
            await _cancel(http, run_id)

        await _in_parallel(job, [run["id"] async for run in _listed(http)], cancel)


async def sdk(job: Job) -> None:
    """A loop over the vendor's SDK, as many at once."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=job.at_once)) as http:
        client = AsyncExtend(token=API_KEY, base_url=job.url, httpx_client=http)

        async def cancel(run_id: str) -> None:
            await client.classify_runs.retrieve(run_id, request_options={"max_retries": 10})
            await client.classify_runs.cancel(run_id, request_options={"max_retries": 10})

        page = await client.classify_runs.list(**OLDEST)
        run_ids = [run.id for run in page.data]
        while page.next_page_token is not None:
            page = await client.classify_runs.list(**OLDEST, next_page_token=page.next_page_token)
            run_ids += [run.id for run in page.data]
        await _in_parallel(job, run_ids, cancel)


@task(cache_policy=NO_CACHE)
async def _cancel_as_a_task(http: httpx.AsyncClient, run_id: str) -> None:
    final = await _cancel(http, run_id)
    key = f"run-{run_id.lower().replace('_', '-')}"
    await acreate_markdown_artifact(f"```json\n{json.dumps(json.loads(final), indent=2)}\n```", key=key)


@flow
async def _a_task_for_each_run(job: Job) -> None:
    async with _http(job) as http:

        async def cancel(run_id: str) -> None:
            await _cancel_as_a_task(http, run_id)

        await _in_parallel(job, [run["id"] async for run in _listed(http)], cancel)


async def naive_flow(job: Job) -> None:
    """A Prefect flow with a task and a keyed artifact for each run."""
    await _a_task_for_each_run(job)


CONTENDERS: dict[str, Callable[[Job], Awaitable[None]]] = {
    each.__name__: each for each in (sweep, warm_sweep, bare_httpx, sdk, naive_flow)
}


def _http(job: Job) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=job.url,
        headers={"authorization": f"Bearer {API_KEY}", "x-extend-api-version": API_VERSION},
        limits=httpx.Limits(max_connections=job.at_once),
        timeout=60,
    )


async def _listed(http: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    params = {"status": "PROCESSING", "sortBy": "updatedAt", "sortDir": "asc", "maxPageSize": "100"}
    while True:
        page = (await http.get("/classify_runs", params=params)).raise_for_status().json()
        for run in page["data"]:
            yield run
        if page["nextPageToken"] is None:
            return
        params["nextPageToken"] = page["nextPageToken"]


async def _cancel(http: httpx.AsyncClient, run_id: str) -> str:
    run = (await http.get(f"/classify_runs/{run_id}")).raise_for_status().json()
    if run["status"] != "PROCESSING":
        return json.dumps(run)
    return (await http.post(f"/classify_runs/{run_id}/cancel")).raise_for_status().text


async def _in_parallel(job: Job, run_ids: Iterable[str], cancel: Callable[[str], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(job.at_once)

    async def one(run_id: str) -> None:
        async with slots:
            await cancel(run_id)

    await asyncio.gather(*(one(run_id) for run_id in run_ids))


def main() -> None:
    """Do one job, and tell."""
    contender, job = CONTENDERS[sys.argv[1]], Job(**json.loads(sys.argv[2]))
    if contender is warm_sweep:
        asyncio.run(nothing(job))
    started, cpu_started = time.monotonic(), time.process_time()
    asyncio.run(contender(job))  # type: ignore[arg-type]
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    sys.stdout.write(f"\n{json.dumps(asdict(Took(seconds, cpu_seconds, peak_mb)))}\n")


if __name__ == "__main__":
    main()
