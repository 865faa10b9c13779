"""Somebody at their command line, with an Extend account and a Prefect server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 300
"""How long a command may take where the machine is busy: what hangs is found all the same."""
KEY = "sk_deployed-4711"


class Account:
    """Somebody with an Extend account and a Prefect server, at their command line."""

    def __init__(self, prefect, sandbox, cwd, transport, measured):
        self.api = httpx.Client(base_url=prefect.api_url, timeout=60, transport=transport)
        self.world = sandbox.world
        self.cwd, self.bin, self.measured = cwd, BIN, measured
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "EXTEND_"))}
        self.environment = clean | prefect.settings | {"EXTEND_API_KEY": KEY, "EXTEND_BASE_URL": sandbox.url}
        # A person's terminal is wide enough for what is searched for below.
        self.environment |= {"COLUMNS": "300", "PREFECT_LOGGING_LEVEL": "WARNING"}

    def type(self, command, *words, **environment):
        """Run a command to its end."""
        measured = self.measured if command == "prefect-extend-ai" else {}
        return subprocess.run(
            [BIN / command, *map(str, words)],
            cwd=self.cwd,
            env=self.environment | measured | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def deploy(self, file):
        done = self.type("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextlib.contextmanager
    def running(self, command, *words, **environment):
        """A command that runs as long as the block."""
        with (self.cwd / f"{command}.log").open("ab") as log:
            process = subprocess.Popen(
                [BIN / command, *map(str, words)],
                cwd=self.cwd,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                yield process
            finally:
                for end in (process.terminate, process.kill):
                    end()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(10)
                        break

    def worker(self, pool="extend"):
        return self.running("prefect", "worker", "start", "--pool", pool, "--type", "process")

    def deployment(self, name):
        answer = self.api.get(f"/deployments/name/{name}")
        answer.raise_for_status()
        return answer.json()

    def schedules(self, name):
        return {each["slug"]: each for each in self.deployment(name)["schedules"]}

    def postpone(self, name):
        """Have no schedule of this deployment fall due meanwhile, whatever the time of day."""
        deployment = self.deployment(name)["id"]
        for schedule in self.schedules(name).values():
            later = {"schedule": {"cron": "0 0 29 2 *", "timezone": "UTC"}}
            self.api.patch(f"/deployments/{deployment}/schedules/{schedule['id']}", json=later).raise_for_status()

    def run(self, name, **parameters):
        """Have a deployment run, as the Run button of the UI does."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        answer = self.api.post(f"/deployments/{self.deployment(name)['id']}/create_flow_run", json=body)
        answer.raise_for_status()
        return answer.json()["id"]

    def runs(self, flow):
        """The runs of a flow, scheduled ones and all."""
        answer = self.api.post("/flow_runs/filter", json={"flows": {"name": {"any_": [flow]}}})
        answer.raise_for_status()
        return answer.json()

    def automations(self):
        answer = self.api.post("/automations/filter", json={})
        answer.raise_for_status()
        return answer.json()

    def eventually(self, look, patience=PATIENCE_SECONDS):
        """What `look` finds, once it finds something."""
        deadline = time.monotonic() + patience
        while not (found := look()):
            assert time.monotonic() < deadline, "it did not come in time"
            time.sleep(0.3)
        return found

    def ended(self, run_id):
        """A flow run, once it has ended."""

        def look():
            run = self.api.get(f"/flow_runs/{run_id}").json()
            return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return self.eventually(look)


def clear(api):
    for automation in api.post("/automations/filter", json={}).json():
        api.delete(f"/automations/{automation['id']}")
    for deployment in api.post("/deployments/filter", json={}).json():
        api.delete(f"/deployments/{deployment['id']}")
    for pool in api.post("/work_pools/filter", json={}).json():
        api.delete(f"/work_pools/{pool['name']}")
    for block in api.post("/block_documents/filter", json={}).json():
        api.delete(f"/block_documents/{block['id']}")
