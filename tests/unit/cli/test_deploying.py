"""What is deployed as planned is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.callables import parameter_schema

from prefect_extend_ai.cli import deploying
from prefect_extend_ai.cli.deploying import deploy, is_deployed
from prefect_extend_ai.cli.fleet import Member
from prefect_extend_ai.cli.plan import Deployed, deployment_plan
from prefect_extend_ai.flows import cancel_stale_runs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
THERE = {"cancel-stale-runs/extend": Deployed(scheduled=True)}
PLAN = deployment_plan("extend", "extend", there=THERE)
PLANNED = PLAN["deployments"][0]


def deployed(**changes):
    """The deployment as Prefect has it once it is deployed."""
    form = parameter_schema(cancel_stale_runs).model_dump_for_openapi()
    facts = {
        "name": "extend",
        "entrypoint": PLANNED["entrypoint"],
        "parameters": PLANNED["parameters"],
        "parameter_openapi_schema": json.loads(json.dumps(form)),
        "work_pool_name": "extend",
        "description": PLANNED["description"],
        "tags": PLANNED["tags"],
    }
    return DeploymentResponse(id=uuid4(), created=NOW, updated=NOW, flow_id=uuid4(), **facts | changes)


def test_what_is_deployed_as_planned_is_the_same():
    assert is_deployed(deployed(), PLANNED, cancel_stale_runs)


@pytest.mark.parametrize(
    "change",
    [
        {"entrypoint": "flows/stale.py:cancel_stale_runs"},
        {"parameters": {"kind": "extract"}},
        {"parameter_openapi_schema": {"properties": {}}},
        {"work_pool_name": None},
        {"job_variables": {"image": "one"}},
        {"description": "mine"},
        {"tags": []},
        {"paused": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_difference_is_deployed(change):
    assert not is_deployed(deployed(**change), PLANNED, cancel_stale_runs)


def test_a_schedule_that_is_missing_is_deployed():
    planned = PLANNED | {"schedules": [{"cron": "*/15 * * * *"}]}
    assert not is_deployed(deployed(), planned, cancel_stale_runs)


def test_only_what_differs_is_handed_to_prefect(monkeypatch):
    handed = []
    monkeypatch.setattr(deploying, "_run_deploy", handed.append)
    name = "cancel-stale-runs/extend"
    assert deploy(PLAN, {name: Member("cancel-stale-runs", name, deployed(), "extend")}) == {name}
    [plan] = handed
    assert [each["entrypoint"] for each in plan["deployments"]] == [
        "prefect_extend_ai.flows.by_id.cancel_runs",
        "prefect_extend_ai.flows.advise.advise_limits",
    ]
    assert deploy(PLAN, {}) == set()
    assert len(handed[1]["deployments"]) == 3
