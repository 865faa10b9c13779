"""Have Prefect deploy a plan, and leave alone what would not change."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.callables import parameter_schema

from prefect_extend_ai.cli.fleet import ADVICE, BY_IDS, SWEEP, Member, which_flow
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.flows import advise_limits, cancel_runs, cancel_stale_runs
from prefect_extend_ai.prefect_io.addresses import without_password

__all__ = ["deploy", "is_deployed"]

LOG_SHOWN = 1500
"""Characters of the end of a failed deploy's output that an error shows."""
PLANNED: Mapping[str, Flow[..., Any]] = {SWEEP: cancel_stale_runs, BY_IDS: cancel_runs, ADVICE: advise_limits}


def deploy(plan: Mapping[str, Any], there: Mapping[str, Member]) -> set[str]:
    """Deploy what is planned. Returns, by `FLOW/NAME`, what is deployed so already and was left alone.

    With each deploy Prefect drops the flow runs that the deployment's schedule has made, and so the next sweep.

    Args:
        plan: as in a prefect.yaml.
        there: the existing deployments, by `FLOW/NAME`.

    Raises:
        ExtendError: `prefect deploy` failed.
    """
    same: set[str] = set()
    changed = []
    for planned in plan["deployments"]:
        flow = which_flow("", planned["entrypoint"]) or ""
        name = f"{flow}/{planned['name']}"
        if name in there and is_deployed(there[name].deployment, planned, PLANNED[flow]):
            same.add(name)
        else:
            changed.append(planned)
    if changed:
        _run_deploy({**plan, "deployments": changed})
    return same


def is_deployed(found: DeploymentResponse, planned: Mapping[str, Any], flow: Flow[..., Any]) -> bool:
    """Whether deploying this would change nothing."""
    form = parameter_schema(flow).model_dump_for_openapi()
    return not planned.get("schedules") and (
        found.entrypoint,
        found.parameters,
        found.parameter_openapi_schema,
        found.work_pool_name,
        found.job_variables or {},
        found.description,
        found.tags,
        found.paused,
    ) == (
        planned["entrypoint"],
        planned["parameters"],
        json.loads(json.dumps(form)),
        planned["work_pool"]["name"],
        planned["work_pool"].get("job_variables", {}),
        planned["description"],
        planned["tags"],
        planned.get("paused", False),
    )


def _run_deploy(plan: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="prefect-extend-ai-") as folder:
        file = Path(folder, "prefect.yaml")
        file.write_text(json.dumps(plan), "utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = without_password(done.stdout + done.stderr).strip()[-LOG_SHOWN:]
        raise ExtendError(f"`prefect deploy` failed: {said}")
