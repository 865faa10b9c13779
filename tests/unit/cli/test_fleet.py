"""Which deployments are ours, and how a served one is served again."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect.client.schemas.responses import DeploymentResponse

from prefect_extend_ai import ExtendCredentials, RunKind
from prefect_extend_ai.cli.check import Seen, accounts_of
from prefect_extend_ai.cli.fleet import Member, which_flow
from prefect_extend_ai.cli.sweeps import how_to_serve
from prefect_extend_ai.cli.unswept import same_account

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "entrypoint", "flow"),
    [
        ("cancel-stale-runs", "prefect_extend_ai.flows.stale.cancel_stale_runs", "cancel-stale-runs"),
        ("nightly", "prefect_extend_ai.flows.stale.cancel_stale_runs", "cancel-stale-runs"),
        ("nightly", "flows/stale.py:cancel_stale_runs", "cancel-stale-runs"),
        ("nightly", "../prefect_extend_ai/flows/by_id.py:cancel_runs", "cancel-runs"),
        ("cancel-stale-runs", None, "cancel-stale-runs"),
        ("cancel-stale-runs", "serving.py:sweep", "cancel-stale-runs"),
        ("raise-alarm", "prefect_extend_ai.deployments.examples.raise_alarm", "raise-alarm"),
        ("nightly", "myflows/stale.py:cancel_stale_runs", None),
        ("nightly", "serving.py:sweep", None),
        ("", None, None),
    ],
)
def test_a_deployment_is_ours_by_entrypoint_or_flow_name(name, entrypoint, flow):
    assert which_flow(name, entrypoint) == flow


def member(name="extend", block="extend", flow="cancel-stale-runs", minutes=30, pool=None, **parameters):
    schedules = [{"schedule": {"interval": 60 * minutes}}] if minutes else []
    facts = {"name": name, "flow_id": uuid4(), "parameters": parameters, "schedules": schedules}
    deployment = DeploymentResponse(id=uuid4(), created=NOW, updated=NOW, work_pool_name=pool, **facts)
    return Member(flow, f"{flow}/{name}", deployment, block)


def test_serving_again_as_check_says_resets_no_option():
    extract = member("acme-extract", "acme", kind="extract", max_processing_minutes=75, dry_run=True)
    said = "prefect-extend-ai serve --kind extract --name acme --limit 75 --dry-run --every 30"
    assert how_to_serve(extract) == said
    assert how_to_serve(member(minutes=None)) == "prefect-extend-ai serve --kind classify --name extend"


def test_what_one_process_can_serve_is_one_command():
    classify = member(kind="classify", max_processing_minutes=60)
    fleet = [
        classify,
        member("extend-extract", kind="extract", max_processing_minutes=60),
        member("extend-split", kind="split", max_processing_minutes=90),
        member("acme-parse", "acme", kind="parse", max_processing_minutes=60),
        member("extend-verify", kind="verify", max_processing_minutes=60, pool="extend"),
    ]
    said = "prefect-extend-ai serve --kind classify --kind extract --name extend --limit 60 --every 30"
    assert how_to_serve(classify, fleet) == said


def test_a_deployment_that_serve_did_not_make_has_no_command():
    assert how_to_serve(member("nightly")) == "start the process that serves it"
    assert how_to_serve(member(block=None)) == "start the process that serves it"


def test_sweeps_are_those_of_the_schedules_or_its_own():
    assert [each["kind"] for each in member(kind="split", minutes=None).sweeps] == ["split"]
    assert list(member(flow="cancel-runs").sweeps) == []
    assert member(kind="edit").kind is None
    assert member().kind is RunKind.CLASSIFY


def test_without_a_workspace_the_key_tells_accounts_apart():
    one = ExtendCredentials(api_key="sk_1")
    assert same_account(one, ExtendCredentials(api_key="sk_1"))
    assert not same_account(one, ExtendCredentials(api_key="sk_2"))
    assert not same_account(one, ExtendCredentials(api_key="sk_1", region="eu"))
    both = [ExtendCredentials(api_key=key, workspace_id="ws_1") for key in ("sk_1", "sk_2")]
    assert same_account(*both)


def swept(*members, **blocks):
    """The kinds that are swept of each account that check asks."""
    return {each.name: set(each.swept) for each in accounts_of(Seen(None, members, blocks))}


ONE, SAME, OTHER = (ExtendCredentials(api_key="sk_1", workspace_id=workspace) for workspace in ("ws_1", "ws_1", "ws_2"))


def test_each_account_has_the_kinds_that_are_swept_of_it():
    classify, extract = member(kind="classify"), member("acme-extract", "acme", kind="extract")
    assert swept(classify, extract, extend=ONE, acme=OTHER) == {"extend": {"classify"}, "acme": {"extract"}}
    together = {"classify", "extract"}
    assert swept(classify, extract, extend=ONE, acme=SAME) == {"extend": together, "acme": together}


def test_a_missing_block_is_asked_for_only_if_there_is_no_other():
    assert swept(member(), extend=None) == {"extend": {"classify"}}
    assert swept(member(), extend=None, acme=OTHER) == {"acme": set()}


def test_an_account_is_read_by_a_swept_kind_with_its_policy():
    held = member("extend-split", kind="split", policy={"hold_key": "ours"})
    [account] = accounts_of(Seen(None, [held], {"extend": ONE}))
    assert (account.kind, account.policy.hold_key) == (RunKind.SPLIT, "ours")
    broken = member(kind="classify", policy={"refuse_above": "many"})
    [account] = accounts_of(Seen(None, [broken], {"extend": ONE}))
    assert account.policy is None
