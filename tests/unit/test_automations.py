"""What deployments/automations.yaml fills in from events, by Prefect's own templates."""

from __future__ import annotations

import copy
import itertools
import re
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from prefect_extend_ai.deployments.examples import inform_owner, raise_alarm

FLOWS = {"inform_owner": inform_owner, "raise_alarm": raise_alarm}
DEPLOYMENTS = yaml.safe_load(files("prefect_extend_ai.deployments").joinpath("automations.yaml").read_text())[
    "deployments"
]
TRIGGERS = {
    trigger["name"]: (deployment["entrypoint"].rpartition(".")[2], trigger)
    for deployment in DEPLOYMENTS
    for trigger in deployment["triggers"]
}
RUN_ID = str(uuid4())
EVENT = {
    "resource": {"prefect.resource.id": f"prefect.flow-run.{RUN_ID}", "prefect.resource.name": "a-sweep"},
    "payload": {
        "run_id": "clr_1",
        "kind": "extract",
        "validated_state": {"type": "FAILED", "name": "Refused", "message": "too many"},
    },
}
ABSENT = {"absent": ..., "null": None, "empty": ""}
VALUES = [
    "payload run_id",
    "payload kind",
    "payload validated_state",
    "payload validated_state name",
    "payload validated_state message",
]
LACKING = [*itertools.product(VALUES, ABSENT), ("payload validated_state type", "absent")]
LACKING += [("resource prefect.resource.name", "absent"), ("resource prefect.resource.name", "empty")]


def render(parameters, event):
    """Fill in an automation's parameters as Prefect's server does when it fires."""
    from prefect.server.events.actions import RunDeployment
    from prefect.server.events.schemas.events import ReceivedEvent
    from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate

    received = ReceivedEvent(event="test", occurred="2026-03-01T12:00:00Z", id=uuid4(), **event)
    wanted = copy.deepcopy(parameters)
    RunDeployment._upgrade_v1_templates(wanted)
    context = HydrationContext(raise_on_error=True, render_jinja=True, jinja_context={"event": received})
    return hydrate(wanted, context)


def lacking(path, value):
    """The event without this, or with nothing in its place."""
    event = copy.deepcopy(EVENT)
    *way, last = path.split()
    within = event
    for step in way:
        within = within[step]
    if value is ...:
        del within[last]
    else:
        within[last] = value
    return event


def filled_in(name, event):
    function, trigger = TRIGGERS[name]
    rendered = render(trigger["parameters"], event)
    flow = FLOWS[function]
    own = {"credentials": {"api_key": "sk_1"}} if flow is inform_owner else {}
    flow.validate_parameters(rendered | own)
    assert all(value for name, value in rendered.items() if name != "flow_run_id"), rendered
    return rendered


def test_an_event_with_everything_fills_in_what_it_has():
    alarm = filled_in("Extend: a sweep was refused or failed", EVENT)
    assert alarm == {"subject": "a-sweep: Refused", "body": "too many", "flow_run_id": RUN_ID}
    assert filled_in("Extend: a run was cancelled", EVENT) == {"run_id": "clr_1", "kind": "extract"}


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize(("path", "how"), LACKING)
def test_no_absent_value_keeps_an_automation_from_acting(trigger, path, how):
    filled_in(trigger, lacking(path, ABSENT[how]))


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_an_event_without_payload_starts_what_it_should(trigger):
    filled_in(trigger, EVENT | {"payload": {}})


def test_every_template_has_a_default():
    templates = itertools.chain.from_iterable(
        re.findall(r"{{.*?}}", str(value))
        for _, trigger in TRIGGERS.values()
        for value in trigger["parameters"].values()
    )
    assert [each for each in templates if not re.search(r"\| default\(.+, true\) }}$", each)] == []


def test_what_is_said_of_extend_s_webhooks_excepts_workflows():
    root = Path(__file__).parents[2]
    texts = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("tasks/*.py"), *root.glob("flows/*.py")]
    for text in texts:
        for passage in re.findall(r"(?s)[^\n]*\n[^\n]*(?<!slack-)\bwebhook\b[^\n]*", text.read_text()):
            assert "workflow_run.cancelled" in passage, f"{text}: {passage}"
