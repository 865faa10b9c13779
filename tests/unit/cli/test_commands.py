"""What setup and check do before Prefect comes into it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prefect_extend_ai import ExtendCredentials, RunKind, StalePolicy
from prefect_extend_ai.cli.accounts import Account, check_account, check_extend
from prefect_extend_ai.cli.blocks import differing_fields
from prefect_extend_ai.cli.command_line import main
from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.cli.first_sweep import stale_words
from prefect_extend_ai.cli.unswept import what_a_sweep_would_do
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
        return {each.subject: each for each in await check_extend(Account("extend", block), RunKind.CLASSIFY)}


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
    assert found["Extend"].text.endswith("EXTEND_API_KEY=... prefect-extend-ai setup --block-only --name extend")
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
    assert found.text.startswith("Extend's clock is 10 min ahead of the local one. The local clock is likely")


async def test_a_wrong_date_header_is_not_called_a_wrong_local_clock():
    world = World(keys={KEY: "ws_sandbox"}, behaviour=Behaviour(date_ahead_minutes=600))
    world.add(age_minutes=1)
    assert "Extend's is likely the wrong one" in (await look(world))["Clock"].text


async def stale_now(block, **parameters):
    return stale_words(await what_a_sweep_would_do(block, parameters), "classify", parameters)


async def test_what_setup_calls_stale_goes_by_both_clocks():
    world = World(keys={KEY: "ws_sandbox"}, behaviour=Behaviour(date_ahead_minutes=120))
    world.add(age_minutes=2)
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, api_key=KEY)
        assert (await stale_now(block)).startswith("0 classify runs, of 1 listed")
        world.behaviour = Behaviour(heeds_filters=False)
        world.add(age_minutes=90)
        said = await stale_now(block, max_processing_minutes=60, policy={"batch_id": "bpr_1"})
        assert said.startswith("the sweep of classify runs would be refused: Extend's listing ignores batch_id")


async def test_what_setup_calls_stale_is_what_a_sweep_would_cancel():
    world = World(keys={KEY: "ws_sandbox"})
    for age in (70, 80, 90):
        world.add(age_minutes=age)
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, api_key=KEY)
        assert (await stale_now(block)) == "3 classify runs, of 3 listed: what a sweep would cancel now"
        assert (await stale_now(block, policy={"max_cancellations": 2})).endswith("a sweep would cancel 2 of them now")
        assert (await stale_now(block, dry_run=True)).endswith("the deployment only makes dry runs")
        assert "refused" in await stale_now(block, policy={"refuse_above": 2})
        assert "not known" in await stale_now(block, policy={"refuse_above": "many"})


async def account_lines(world, *swept, several=False):
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, api_key=KEY)
        found = await check_account(Account("acme", block, frozenset(swept)), several=several)
    return [(each.verdict.value, each.text) for each in found if each.subject == "Not swept"]


async def test_stale_runs_of_a_kind_nobody_sweeps_are_counted():
    world = World(keys={KEY: "ws_sandbox"})
    for age in (70, 80, 10):
        world.add("extract", age_minutes=age)
    world.add(age_minutes=90)
    how = "prefect-extend-ai setup --name acme --kind extract"
    assert await account_lines(world, RunKind.CLASSIFY, RunKind.PARSE) == [
        ("warn", f"2 extract runs are stale, and no deployment sweeps them: {how}"),
        ("ok", "no stale runs of the kinds that no deployment sweeps: split, verify, workflow"),
    ]
    assert await account_lines(world, *RunKind) == []


async def test_a_kind_that_the_key_cannot_list_is_a_warning():
    world = World(keys={KEY: "ws_sandbox"}, troubles=["list:split:403@1-"])
    world.add("extract", age_minutes=90)
    lines = await account_lines(world, RunKind.CLASSIFY, several=True)
    assert [verdict for verdict, _ in lines] == ["warn", "warn", "ok"]
    assert lines[0][1].startswith("block acme: 1 extract run is stale, and no deployment sweeps it")
    assert lines[1][1].startswith("block acme: split runs cannot be listed, and no deployment sweeps them: HTTP 403")


async def test_a_hold_by_another_key_is_reported_if_the_key_is_known():
    world = World(keys={KEY: "ws_sandbox"})
    world.add(age_minutes=90, metadata={"ops": {"hold": True}})
    with serve(world) as sandbox:
        block = ExtendCredentials(base_url=sandbox.url, api_key=KEY)
        found = await check_extend(Account("extend", block, policy=StalePolicy()), RunKind.CLASSIFY)
        assert found[-1].subject == "Holds"
        policy = StalePolicy(hold_key="ops.hold")
        held = await check_extend(Account("extend", block, policy=policy), RunKind.CLASSIFY)
        assert [each.subject for each in held] == ["Extend", "Workspace", "Clock"]


async def test_without_block_and_key_it_says_which_variable_to_set():
    [finding] = await check_extend(Account("extend"), RunKind.CLASSIFY)
    assert finding.verdict is Verdict.FAIL
    assert "EXTEND_API_KEY" in finding.text


def test_a_difference_of_blocks_names_fields_and_no_values():
    one = ExtendCredentials(api_key=KEY)
    assert differing_fields(one, ExtendCredentials(api_key=KEY)) == []
    assert differing_fields(one, ExtendCredentials(api_key="sk_other", region="eu")) == ["api_key", "region"]


@pytest.mark.parametrize(
    "words",
    [
        ["setup", "--bogus"],
        ["setup", "--name", "Not A Name"],
        ["setup", "--pool", "a/b"],
        ["setup", "--pool", ""],
        ["setup", "--kind", "edit"],
        ["setup", "--job-variable", "namespace"],
        ["setup", "--job-variable", "=documents"],
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
