"""What setup and check do before Prefect comes into it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.responses import DeploymentResponse

from prefect_extend_ai import ExtendCredentials, RunKind, StalePolicy
from prefect_extend_ai.cli.blocks import block_reference, differing_fields
from prefect_extend_ai.cli.check import check_extend, how_to_serve
from prefect_extend_ai.cli.command_line import main
from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.cli.setup import Deployed, _stale_now, deployment_plan
from prefect_extend_ai.sandbox import Behaviour, World, serve

KEY = "sk_commands-4711"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in ("API_KEY", "WORKSPACE_ID", "REGION", "BASE_URL", "REQUESTS_PER_SECOND"):
        monkeypatch.delenv(f"EXTEND_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


async def look(world, **fields):
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, **{"api_key": KEY} | fields)
        return {each.subject: each for each in await check_extend(block, RunKind.CLASSIFY)}


async def test_a_key_that_reads_runs_is_well_and_one_request_shows_it():
    world = World.populated(runs=5, stuck=1, keys={KEY: "ws_sandbox"})
    found = await look(world)
    assert {each.verdict for each in found.values()} == {Verdict.OK}
    assert list(found) == ["Extend", "Workspace", "Clock"]
    assert [entry.method for entry in world.journal] == ["GET"]


async def test_a_wrong_key_fails_and_is_not_shown():
    found = await look(World(keys={"sk_another": "ws_1"}))
    assert list(found) == ["Extend"]
    assert found["Extend"].verdict is Verdict.FAIL
    assert "check the API key" in found["Extend"].text
    assert KEY not in found["Extend"].text


async def test_an_organization_key_without_workspace_must_name_one():
    found = await look(World(keys={KEY: None}))
    assert found["Extend"].verdict is Verdict.FAIL
    assert "workspace" in found["Extend"].text


async def test_a_workspace_without_any_run_is_questioned():
    found = await look(World(keys={KEY: None}), workspace_id="ws_empty")
    assert found["Workspace"].verdict is Verdict.WARN
    assert found["Workspace"].text.startswith("ws_empty has no classify runs at all: is it the right one")


async def test_a_clock_that_is_off_is_noticed():
    world = World(keys={KEY: "ws_sandbox"}, clock=lambda: datetime.now(UTC) + timedelta(minutes=10, seconds=30))
    world.add(age_minutes=1)
    found = (await look(world))["Clock"]
    assert found.verdict is Verdict.WARN
    # The run changed nine minutes from now by the clock here.
    assert found.text.startswith("Extend's clock is 10 minutes ahead of the local one. The local clock is likely")


async def test_a_wrong_date_header_is_not_called_a_wrong_local_clock():
    world = World(keys={KEY: "ws_sandbox"}, behaviour=Behaviour(date_ahead_minutes=600))
    world.add(age_minutes=1)
    assert "Extend's is likely the wrong one" in (await look(world))["Clock"].text


async def test_what_setup_calls_stale_goes_by_both_clocks():
    world = World(keys={KEY: "ws_sandbox"}, behaviour=Behaviour(date_ahead_minutes=120))
    world.add(age_minutes=2)
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, api_key=KEY)
        assert (await _stale_now(block, {"max_processing_minutes": 60})).startswith("0 classify runs, of 1 listed")
        world.behaviour = Behaviour(heeds_filters=False)
        world.add(age_minutes=90)
        said = await _stale_now(block, {"max_processing_minutes": 60, "policy": {"batch_id": "bpr_1"}})
        assert said.startswith("the sweep would be refused: Extend's listing ignores batch_id")


async def test_a_hold_by_another_key_is_reported_if_the_key_is_known():
    world = World(keys={KEY: "ws_sandbox"})
    world.add(age_minutes=90, metadata={"ops": {"hold": True}})
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, api_key=KEY)
        found = await check_extend(block, RunKind.CLASSIFY, StalePolicy())
        assert found[-1].subject == "Holds"
        held = await check_extend(block, RunKind.CLASSIFY, StalePolicy(hold_key="ops.hold"))
        assert [each.subject for each in held] == ["Extend", "Workspace", "Clock"]


async def test_without_block_and_key_it_says_which_variable_to_set():
    [finding] = await check_extend(None, RunKind.CLASSIFY)
    assert finding.verdict is Verdict.FAIL
    assert "EXTEND_API_KEY" in finding.text


def test_a_difference_of_blocks_names_fields_and_no_values():
    one = ExtendCredentials(api_key=KEY)
    assert differing_fields(one, ExtendCredentials(api_key=KEY)) == []
    assert differing_fields(one, ExtendCredentials(api_key="sk_other", region="eu")) == ["api_key", "region"]


def test_a_plan_takes_the_given_names_and_no_other_workspace():
    plan = deployment_plan("acme", "documents")
    assert [each["name"] for each in plan["deployments"]] == ["acme", "acme"]
    assert {each["work_pool"]["name"] for each in plan["deployments"]} == {"documents"}
    assert [each["parameters"]["credentials"] for each in plan["deployments"]] == [block_reference("acme")] * 2
    assert [each["slug"] for each in plan["deployments"][0]["schedules"]] == ["every-15-minutes"]
    assert "paused" not in json.dumps(plan)


def test_what_users_set_on_a_deployment_is_kept_but_the_block():
    theirs = {"credentials": {"$ref": "another"}, "max_processing_minutes": 240, "policy": {"refuse_above": 9}}
    plan = deployment_plan("acme", "extend", {"cancel-stale-runs": Deployed(theirs, paused=True, scheduled=True)})
    sweep, by_id = plan["deployments"]
    assert sweep["parameters"] == theirs | {"credentials": block_reference("acme")}
    assert sweep["paused"]
    assert "schedules" not in sweep
    assert by_id["parameters"] == {"credentials": block_reference("acme")}
    assert "paused" not in by_id


@pytest.mark.parametrize(
    "words",
    [
        ["setup", "--bogus"],
        ["setup", "--name", "Not A Name"],
        ["setup", "--pool", "a/b"],
        ["setup", "--pool", ""],
        ["check", "--kind", "edit"],
        ["check", "surplus"],
        ["serve", "--every", "0"],
        ["serve", "--limit", "0"],
        ["serve", "--kind", "edit"],
        ["sandbox", "--behave", "cancel=nope"],
        ["sandbox", "--trouble", "nonsense"],
        ["sandbox", "--clock-ahead", "nan"],
        ["sandbox", "--clock-ahead", "1e12"],
    ],
)
def test_a_command_line_that_is_wrong_ends_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def deployed(parameters, minutes=None):
    schedules = [] if minutes is None else [{"schedule": {"interval": 60 * minutes}}]
    now = datetime.now(UTC)
    return DeploymentResponse(
        id=uuid4(), created=now, updated=now, name="served", flow_id=uuid4(), parameters=parameters, schedules=schedules
    )


def test_serving_again_as_check_says_resets_no_option():
    options = {"kind": "extract", "max_processing_minutes": 75, "dry_run": True}
    assert how_to_serve(deployed(options, minutes=30)) == (
        "prefect-extend-ai serve --name served --kind extract --limit 75 --dry-run --every 30"
    )
    assert how_to_serve(deployed({})) == "prefect-extend-ai serve --name served"


def test_without_a_prefect_to_talk_to_check_says_how_to_get_one(monkeypatch, capsys):
    monkeypatch.setenv("EXTEND_API_KEY", KEY)
    with serve(World(keys={KEY: "ws_sandbox"})) as sandbox:
        monkeypatch.setenv("EXTEND_BASE_URL", sandbox.url)
        with pytest.raises(SystemExit) as ended:
            main(["check"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "prefect server start" in said
    assert KEY not in said


def test_setup_without_a_key_says_which_variable_to_set(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["setup"])
    assert ended.value.code == 1
    assert "EXTEND_API_KEY" in capsys.readouterr().err
