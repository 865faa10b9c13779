"""What setup deploys, and what no schedule may carry."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai import RunKind
from prefect_extend_ai.cli.blocks import block_reference, deployment_name, kinds_of
from prefect_extend_ai.cli.plan import Deployed, deployment_plan, job_variables

ROOT = Path(__file__).parents[3]
SHIPPED = [files("prefect_extend_ai.deployments").joinpath(name) for name in ("prefect.yaml", "automations.yaml")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def by_name(plan):
    return {each["name"]: each for each in plan["deployments"]}


def test_a_plan_takes_the_given_names():
    plan = deployment_plan("acme", "documents")
    assert [each["name"] for each in plan["deployments"]] == ["acme"] * 3
    assert {each["work_pool"]["name"] for each in plan["deployments"]} == {"documents"}
    assert [each["parameters"]["credentials"] for each in plan["deployments"]] == [block_reference("acme")] * 3
    assert [each["slug"] for each in plan["deployments"][0]["schedules"]] == ["every-15-minutes"]
    assert "paused" not in json.dumps(plan)


def test_each_kind_has_a_deployment_with_its_own_name():
    plan = deployment_plan("extend", "extend", list(RunKind))
    *sweeps, by_ids, advice = plan["deployments"]
    assert [each["name"] for each in sweeps] == [
        "extend",
        "extend-extract",
        "extend-split",
        "extend-parse",
        "extend-verify",
        "extend-workflow",
    ]
    assert [each["parameters"]["kind"] for each in sweeps] == [kind.value for kind in RunKind]
    assert "extract runs" in sweeps[1]["description"]
    assert (by_ids["name"], by_ids["entrypoint"]) == ("extend", "prefect_extend_ai.flows.by_id.cancel_runs")
    assert (advice["name"], advice["entrypoint"]) == ("extend", "prefect_extend_ai.flows.advise.advise_limits")
    assert "schedules" not in by_ids | advice


@given(st.sets(st.sampled_from(RunKind), min_size=1), st.booleans())
def test_planned_parameters_are_on_no_schedule(kinds, scheduled):
    plan = deployment_plan("acme", "extend", sorted(kinds), scheduled=scheduled)
    # On SQLite, sweeps that begin in one minute can stall the server.
    assert len({each["schedules"][0]["cron"] for each in plan["deployments"][:-2]}) == len(kinds)
    for each in plan["deployments"][:-2]:
        assert each["parameters"].keys() == {"credentials", "max_processing_minutes", "kind"}
        [schedule] = each["schedules"]
        assert "parameters" not in schedule
        assert schedule["cron"].startswith(("*/15 ", "1-59/15 ", "2-59/15 ", "3-59/15 ", "4-59/15 ", "5-59/15 "))
        # Active is not said: a schedule that somebody has paused stays paused.
        assert schedule.get("active") is (None if scheduled else False)


def test_what_users_set_on_a_deployment_is_kept_but_the_block():
    theirs = {"credentials": {"$ref": "another"}, "max_processing_minutes": 240, "policy": {"refuse_above": 9}}
    there = {"cancel-stale-runs/acme": Deployed(theirs, paused=True, scheduled=True, job_variables={"image": "one"})}
    plan = deployment_plan("acme", "extend", [RunKind.CLASSIFY, RunKind.SPLIT], there, variables={"cpu": 2})
    sweep, other, by_ids, advice = plan["deployments"]
    assert sweep["parameters"] == theirs | {"credentials": block_reference("acme"), "kind": "classify"}
    assert sweep["paused"]
    assert "schedules" not in sweep
    assert sweep["work_pool"] == {"name": "extend", "job_variables": {"image": "one", "cpu": 2}}
    assert other["schedules"]
    assert by_ids["parameters"] == advice["parameters"] == {"credentials": block_reference("acme")}
    assert "paused" not in json.dumps([other, by_ids])


def test_a_kind_is_chosen_once_and_all_means_each():
    assert kinds_of(["split", "classify", "split"]) == [RunKind.CLASSIFY, RunKind.SPLIT]
    assert kinds_of(["split", "all"]) == list(RunKind)
    assert kinds_of([]) == []


def test_no_two_kinds_share_a_deployment():
    assert len({deployment_name("acme", kind) for kind in RunKind}) == len(RunKind)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("namespace=documents", "documents"),
        ("memory=512", 512),
        ('env={"A": "b=c"}', {"A": "b=c"}),
        ("stream_output=false", False),
        ("args=a=b", "a=b"),
        ("image=", ""),
    ],
)
def test_a_job_variable_is_text_unless_it_is_json(word, value):
    assert list(job_variables([word]).values()) == [value]


def fenced_yaml(page):
    return [yaml.safe_load(text) for text in re.findall(r"```ya?ml\n(.*?)```", page.read_text(), re.DOTALL)]


def schedules(node):
    """Every schedule anywhere in a document."""
    if isinstance(node, dict):
        yield from node.get("schedules") or []
        yield from [node["schedule"]] if isinstance(node.get("schedule"), dict) else []
        for value in node.values():
            yield from schedules(value)
    elif isinstance(node, list):
        for value in node:
            yield from schedules(value)


def test_no_shipped_or_documented_schedule_carries_parameters():
    documents = [yaml.safe_load(file.read_text()) for file in SHIPPED] + [
        document for page in PAGES for document in fenced_yaml(page)
    ]
    found = [schedule for document in documents for schedule in schedules(document)]
    assert found
    assert [schedule for schedule in found if "parameters" in schedule] == []


def test_no_python_of_ours_gives_a_schedule_parameters():
    sources = [*ROOT.glob("prefect_extend_ai/**/*.py"), *PAGES]
    given = re.compile(r"(Schedule\w*\((?:[^()]|\([^()]*\))*\bparameters=|\"schedule\":[^}]*\"parameters\")")
    assert [str(path) for path in sources if given.search(path.read_text())] == []
