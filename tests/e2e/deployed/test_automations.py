"""deployments/automations.yaml on a real server: what is emitted starts what it should, and silence is heard."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from importlib.resources import files

import pytest
from prefect.events import emit_event

from prefect_extend_ai import ExtendCredentials, StalePolicy, SweepFailed, SweepRefused, SweepReport
from prefect_extend_ai.deployments.examples import inform_owner, raise_alarm, send_digest
from prefect_extend_ai.errors import ExtendAPIError
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.prefect_io import events
from prefect_extend_ai.sweep.journal import Scope

ROOT = files("prefect_extend_ai.deployments")
CANCELLED, SUBMITTED_AGAIN = "Extend: a run was cancelled", "Extend: a document was submitted again"
SECONDS = 10
"""The dead man's patience in these tests: the shortest that Prefect takes."""


@pytest.fixture
def automated(account, request):
    """Both files deployed; the dead man's switch waits as long as the test says."""
    assert account.type("prefect-extend-ai", "setup").returncode == 0
    within = getattr(request, "param", 86400)
    shipped = (ROOT / "automations.yaml").read_text()
    assert "within: 2700" in shipped
    (account.cwd / "automations.yaml").write_text(shipped.replace("within: 2700", f"within: {within}"))
    account.deploy(account.cwd / "automations.yaml")
    return account


async def test_a_sweep_that_cancelled_runs_starts_one_digest(automated):
    stale = automated.world.stale()
    report = await cancel_stale_runs(await ExtendCredentials.aload("extend"))
    assert report.counts == {"cancelled": 3}
    await cancel_stale_runs(await ExtendCredentials.aload("extend"))  # which cancels nothing
    [digest] = automated.eventually(lambda: automated.runs("send-digest"))
    parameters = digest["parameters"]
    assert [run["run_id"] for run in parameters["cancelled"]] == [each.run_id for each in report.cancellations]
    assert {run["run_id"] for run in parameters["cancelled"]} == set(stale)
    assert "Ada" not in json.dumps(digest)
    state = await send_digest(**parameters, return_state=True)
    assert state.message == "Cancelled 3 of 3 stale classify runs (the log lists them)"
    # A flow run for each cancelled run is for those who switch it on.
    assert automated.runs("inform-owner") == []
    off = {each["name"] for each in automated.automations() if not each["enabled"]}
    assert off == {CANCELLED, SUBMITTED_AGAIN}


def switch_on(account, name):
    [off] = [each for each in account.automations() if each["name"] == name]
    account.api.patch(f"/automations/{off['id']}", json={"enabled": True}).raise_for_status()


async def test_a_message_for_each_run_comes_where_it_is_on(automated):
    switch_on(automated, CANCELLED)
    stale = automated.world.stale()
    await cancel_stale_runs(await ExtendCredentials.aload("extend"))
    owners = automated.eventually(lambda: len(found := automated.runs("inform-owner")) == 3 and found)
    assert {run["parameters"]["run_id"] for run in owners} == set(stale)
    assert {run["parameters"]["kind"] for run in owners} == {"classify"}
    parameters = owners[0]["parameters"] | {"credentials": await ExtendCredentials.aload("extend")}
    state = await inform_owner(**parameters, return_state=True)
    assert state.is_completed()
    assert (
        state.message == f"The classify run {owners[0]['parameters']['run_id']} was cancelled; the log says whose it is"
    )


async def test_a_message_names_the_run_that_replaces_it(automated):
    switch_on(automated, SUBMITTED_AGAIN)
    report = await cancel_stale_runs(await ExtendCredentials.aload("extend"), policy=StalePolicy(resubmit=1))
    new = {each.run_id: each.resubmitted_as for each in report.cancellations if each.resubmitted_as}
    assert new

    def started():
        return [run for run in automated.runs("inform-owner") if run["parameters"].get("resubmitted_as")]

    owners = automated.eventually(lambda: len(found := started()) == len(new) and found)
    assert {run["parameters"]["run_id"]: run["parameters"]["resubmitted_as"] for run in owners} == new
    parameters = owners[0]["parameters"] | {"credentials": await ExtendCredentials.aload("extend")}
    state = await inform_owner(**parameters, return_state=True)
    old = parameters["run_id"]
    said = f"The classify run {old} was cancelled, and its document was submitted again as {new[old]}"
    assert state.message == f"{said}; the log says whose it is"


async def test_a_sweep_that_is_refused_or_fails_raises_one_alarm(automated):
    credentials = await ExtendCredentials.aload("extend")
    with pytest.raises(SweepRefused):
        await cancel_stale_runs(credentials, policy=StalePolicy(refuse_above=0))
    [alarm] = automated.eventually(lambda: automated.runs("raise-alarm"))
    assert re.fullmatch(r"extend classify: refused", alarm["parameters"]["subject"])
    assert "Refused, nothing was cancelled" in alarm["parameters"]["body"]
    refused = automated.api.get(f"/flow_runs/{alarm['parameters']['flow_run_id']}").json()
    assert refused["state_name"] == "Refused"

    credentials.workspace_id = "ws_of_somebody_else"
    state = await cancel_stale_runs(credentials, return_state=True)
    assert state.is_failed()
    failed = await state.aresult(raise_on_failure=False)
    assert isinstance(failed, SweepFailed)
    assert "404" in failed.report.trouble or "workspace" in failed.report.trouble
    assert isinstance(failed.__cause__, ExtendAPIError)
    # The history of its key is that of the sweeps, those that could not begin too.
    key = f"extend-sweep-{Scope(kind='classify', api_url='', workspace_id='ws_of_somebody_else').slug}"
    written = automated.api.get(f"/artifacts/{key}/latest").json()
    assert (written["description"], written["flow_run_id"]) == (state.message, str(state.state_details.flow_run_id))
    alarms = automated.eventually(lambda: len(found := automated.runs("raise-alarm")) == 2 and found)
    (second,) = [each for each in alarms if each["id"] != alarm["id"]]
    assert second["parameters"]["subject"] == "extend classify: failed"


@pytest.fixture
def swept(monkeypatch):
    """Emits what a sweep of a deployment ends with, as if a worker had carried it out."""

    def emit(deployment, **report):
        related = [
            {"prefect.resource.id": "prefect.flow.1", "prefect.resource.role": "flow"}
            | {"prefect.resource.name": "cancel-stale-runs"},
            {"prefect.resource.id": f"prefect.deployment.{deployment}", "prefect.resource.role": "deployment"}
            | {"prefect.resource.name": deployment},
        ]
        monkeypatch.setattr(events, "emit_event", partial(emit_event, related=related))
        events.emit_sweep(SweepReport(**report))

    return emit


@pytest.mark.parametrize("automated", [SECONDS], indirect=True)
def test_the_dead_mans_switch_fires_once_where_sweeps_stop(automated, swept):
    def silent():
        subjects = [each["parameters"]["subject"] for each in automated.runs("raise-alarm")]
        # A sweep that fails has a separate alarm.
        return [subject for subject in subjects if subject.startswith("No Extend sweep")]

    # One deployment goes on, failing; another only rehearses after its one real sweep.
    swept("acme")
    for _ in range(2 * SECONDS // 3):
        swept("extend", trouble="the key is wrong")
        swept("acme", dry_run=True)
        time.sleep(3)
    assert automated.eventually(silent) == ["No Extend sweep of acme has ended for 45 minutes"]
    automated.eventually(lambda: len(silent()) == 2)
    time.sleep(SECONDS)  # more than a second alarm of the same silence would take
    assert sorted(silent()) == [f"No Extend sweep of {name} has ended for 45 minutes" for name in ("acme", "extend")]


async def test_an_alarm_without_a_channel_is_a_failed_flow_run(prefect_server):
    run_id = "00000000-0000-4000-8000-000000000001"
    state = await raise_alarm("Extend is down", "Look at it.", flow_run_id=run_id, return_state=True)
    assert (state.type, state.name) == ("FAILED", "Alarm")
    assert state.message.startswith("Extend is down. Look at it. http")
    assert state.message.endswith(f"/flow-run/{run_id}")
