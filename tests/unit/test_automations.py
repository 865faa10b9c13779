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

from prefect_extend_ai import SweepReport
from prefect_extend_ai.deployments.examples import MOST_LINES, digest_text, inform_owner, raise_alarm, send_digest
from prefect_extend_ai.sweep.resubmission.plan import RESUBMITTABLE

FLOWS = {"inform_owner": inform_owner, "raise_alarm": raise_alarm, "send_digest": send_digest}
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
    "related": [
        {
            "prefect.resource.id": f"prefect.deployment.{RUN_ID}",
            "prefect.resource.role": "deployment",
            "prefect.resource.name": "extend-extract",
        },
        {
            "prefect.resource.id": f"prefect.flow-run.{RUN_ID}",
            "prefect.resource.role": "flow-run",
            "prefect.resource.name": "acme extract",
        },
    ],
    "payload": {
        "headline": "Cancelled 1 of 1 stale extract run",
        "cancelled": [{"run_id": "exr_1", "age_minutes": 81.2, "dashboard_url": None, "record": None}],
        "cancelled_total": 1,
        "flow_run_id": RUN_ID,
        "run_id": "clr_1",
        "resubmitted_as": "clr_2",
        "kind": "extract",
        "validated_state": {"type": "FAILED", "name": "Refused", "message": "too many"},
    },
}
ABSENT = {"absent": ..., "null": None, "empty": ""}
VALUES = [
    "payload run_id",
    "payload kind",
    "payload resubmitted_as",
    "payload headline",
    "payload cancelled",
    "payload cancelled_total",
    "payload flow_run_id",
    "payload validated_state",
    "payload validated_state name",
    "payload validated_state message",
]
LACKING = [*itertools.product(VALUES, ABSENT), ("payload validated_state type", "absent")]
LACKING += [("resource prefect.resource.name", "absent"), ("resource prefect.resource.name", "empty")]
MAY_BE_EMPTY = {"flow_run_id", "cancelled", "total", "resubmitted_as"}
SWEEP_FLOWS = {"cancel-stale-runs", "cancel-runs"}


def render(parameters, event):
    """Fill in an automation's parameters as Prefect's server does when it fires."""
    from prefect.server.events.actions import RunDeployment
    from prefect.server.events.schemas.events import ReceivedEvent
    from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate

    received = ReceivedEvent(event="extend.test", occurred="2026-03-01T12:00:00Z", id=uuid4(), **event)
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
    assert all(value for name, value in rendered.items() if name not in MAY_BE_EMPTY), rendered
    return rendered


def test_an_event_with_everything_fills_in_what_it_has():
    crashed = filled_in("Extend: a sweep crashed", EVENT)
    assert crashed == {"subject": "a-sweep: Refused", "body": "too many", "flow_run_id": RUN_ID}
    alarm = filled_in("Extend: a sweep was refused or failed", EVENT)
    assert alarm["subject"] == "acme extract: extend.test"
    assert (alarm["body"], alarm["flow_run_id"]) == ("Cancelled 1 of 1 stale extract run", RUN_ID)
    assert filled_in("Extend: a run was cancelled", EVENT) == {"run_id": "clr_1", "kind": "extract"}
    again = filled_in("Extend: a document was submitted again", EVENT)
    assert again == {"run_id": "clr_1", "kind": "extract", "resubmitted_as": "clr_2"}
    digest = filled_in("Extend: a sweep cancelled runs", EVENT)
    assert digest["cancelled"] == EVENT["payload"]["cancelled"]
    assert (digest["headline"], digest["total"]) == ("Cancelled 1 of 1 stale extract run", 1)
    silence = filled_in("Extend: no sweep has ended", EVENT)
    assert silence["subject"] == "No Extend sweep of extend-extract has ended for 45 minutes"


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize(("path", "how"), LACKING)
def test_no_absent_value_keeps_an_automation_from_acting(trigger, path, how):
    filled_in(trigger, lacking(path, ABSENT[how]))


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_an_event_without_payload_starts_what_it_should(trigger):
    filled_in(trigger, EVENT | {"payload": {}})
    filled_in(trigger, EVENT | {"payload": {}, "related": []})


def test_deployments_and_automations_have_names_of_their_own():
    names = [each["name"] for each in DEPLOYMENTS]
    assert names == ["extend-digest", "extend-owner-message", "extend-alarm"]
    assert len(TRIGGERS) == sum(len(each["triggers"]) for each in DEPLOYMENTS)


def test_a_message_for_each_run_is_off_unless_switched_on():
    off = [name for name, (_, trigger) in TRIGGERS.items() if not trigger.get("enabled", True)]
    assert off == ["Extend: a run was cancelled", "Extend: a document was submitted again"]


@pytest.mark.parametrize("kind", sorted(RESUBMITTABLE))
def test_the_new_run_of_each_kind_is_passed_on(kind):
    again = "Extend: a document was submitted again"
    assert covers(again, f"extend.{kind.object_name}.resubmitted")[0]
    assert not covers(again, f"extend.{kind.object_name}.cancelled")[0]
    assert not covers("Extend: a run was cancelled", f"extend.{kind.object_name}.resubmitted")[0]


def covers(trigger, event, **labels):
    """Whether Prefect counts this event of a sweep for this automation."""
    from prefect.server.events.schemas.automations import EventTrigger
    from prefect.server.events.schemas.events import ReceivedEvent

    keep = {"after", "expect", "match", "match_related", "for_each", "threshold", "posture", "within"}
    built = EventTrigger(
        **{"posture": "Reactive", "threshold": 1, "within": 0}
        | {name: value for name, value in TRIGGERS[trigger][1].items() if name in keep}
    )
    roles = {"flow": labels.pop("flow", "cancel-stale-runs"), "deployment": labels.pop("deployment", "extend")}
    related = [
        {
            "prefect.resource.id": f"prefect.{role}.{name}",
            "prefect.resource.role": role,
            "prefect.resource.name": name,
        }
        for role, name in roles.items()
        if name
    ]
    resource = {"prefect.resource.id": "extend.sweep.classify.default", "prefect.resource.name": "a sweep", **labels}
    facts = {"occurred": "2026-03-01T12:00:00Z", "id": uuid4(), "event": event}
    received = ReceivedEvent(resource=resource, related=related, **facts)
    return built.expects(event) and built.covers(received), built.bucketing_key(received)


SWEPT = {"extend.dry_run": "false", "extend.cancelled": "3"}
DIGEST, SILENCE = "Extend: a sweep cancelled runs", "Extend: no sweep has ended"


@pytest.mark.parametrize(
    ("event", "labels", "digest"),
    [
        ("extend.sweep.completed", {}, True),
        ("extend.sweep.failed", {}, True),
        ("extend.sweep.completed", {"extend.cancelled": "0"}, False),
        ("extend.sweep.completed", {"flow": "cancel-runs"}, True),
        ("extend.classify_run.cancelled", {}, False),
    ],
)
def test_a_digest_is_for_a_sweep_that_cancelled_something(event, labels, digest):
    assert covers(DIGEST, event, **SWEPT | labels)[0] is digest


@pytest.mark.parametrize(
    ("event", "labels", "alive"),
    [
        ("extend.sweep.completed", {"extend.cancelled": "0"}, True),
        ("extend.sweep.failed", {}, True),
        ("extend.sweep.refused", {}, True),
        ("extend.sweep.completed", {"extend.dry_run": "true"}, False),
        ("extend.sweep.completed", {"flow": "cancel-runs"}, False),
        ("extend.sweep.completed", {"deployment": None}, False),
    ],
)
def test_a_real_sweep_of_a_deployment_is_a_sign_of_life(event, labels, alive):
    assert covers(SILENCE, event, **SWEPT | labels)[0] is alive


def test_the_dead_mans_switch_counts_for_each_deployment():
    keys = {covers(SILENCE, "extend.sweep.completed", **SWEPT, deployment=name)[1] for name in ("extend", "acme")}
    assert keys == {("prefect.deployment.extend",), ("prefect.deployment.acme",)}


ALARMS = [name for name, (function, _) in TRIGGERS.items() if function == "raise_alarm" and name != SILENCE]


def alarms_of(event, **labels):
    """How many alarms an event of a flow run raises."""
    return sum(covers(name, event, **labels)[0] for name in ALARMS)


@pytest.mark.parametrize("flow", ["cancel-stale-runs", "cancel-runs", "send-digest", "inform-owner"])
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("Crashed", "Crash detected! Execution was aborted by a termination signal."),
        ("Crashed", "Flow run infrastructure exited with non-zero status code -9."),
        ("Failed", "Failed to resolve block references in parameters."),
        ("Failed", "Validation of flow parameters failed with error: ..."),
        ("Failed", "Flow run encountered an exception: ..."),
    ],
)
def test_each_flow_that_prefect_ends_raises_one_alarm(flow, state, message):
    labels = {"prefect.state-message": message}
    assert alarms_of(f"prefect.flow-run.{state}", flow=flow, **labels) == 1
    # An alarm about an alarm would go on for ever.
    assert alarms_of(f"prefect.flow-run.{state}", flow="raise-alarm", **labels) == 0


HEADLINES = [
    SweepReport(kind="classify", limit_minutes=60, trouble="the key is wrong"),
    SweepReport(kind="classify", limit_minutes=60, refusal="too many"),
    SweepReport(kind="classify", limit_minutes=60, selected=2, dry_run=True, trouble="no report"),
    SweepReport(kind="classify", limit_minutes=60, unrecorded=1),
    SweepReport(kind="classify", limit_minutes=None, selected=2, trouble="no such run"),
]


@pytest.mark.parametrize("report", HEADLINES, ids=lambda report: report.headline[:20])
def test_a_sweep_that_ends_itself_raises_one_alarm(report):
    state = "Refused" if report.refusal else "Failed"
    assert alarms_of(f"prefect.flow-run.{state}", **{"prefect.state-message": report.headline}) == 0
    assert alarms_of(f"extend.sweep.{state.lower()}", **SWEPT, **{"extend.news": "true"}) == 1


def test_a_trouble_that_lasts_raises_no_second_alarm():
    assert alarms_of("extend.sweep.refused", **SWEPT, **{"extend.news": "false"}) == 0


def test_a_digest_says_ids_ages_and_links_and_how_many_more():
    run = {"run_id": "clr_0", "age_minutes": 81.4, "dashboard_url": "https://dashboard.extend.ai/1", "record": RUN_ID}
    first, *rest, more, sweep = digest_text([run] * 99, 120, RUN_ID).splitlines()
    assert first.startswith("clr_0, unchanged for 81 min, https://dashboard.extend.ai/1, record ")
    assert (len(rest), more) == (MOST_LINES - 1, f"and {120 - MOST_LINES} more, in the report")
    assert sweep.startswith("The sweep, with its report: ")
    assert RUN_ID in first
    assert RUN_ID in sweep
    assert digest_text([{"run_id": "clr_1"}], 1, None) == "clr_1"


def test_every_flow_of_the_automations_is_one_that_check_finds():
    from prefect_extend_ai.cli.fleet import which_flow

    assert {which_flow("renamed", each["entrypoint"]) for each in DEPLOYMENTS} == {each.name for each in FLOWS.values()}


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
