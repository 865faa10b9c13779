"""What `setup` deploys: the shipped prefect.yaml for a block, a work pool and kinds of run."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Annotated, Any

import yaml  # type: ignore[import-untyped]  # its stubs are a separate package
from cyclopts import CycloptsError, Parameter
from prefect.client.schemas.responses import DeploymentResponse

from prefect_extend_ai.cli.blocks import block_reference, deployment_name
from prefect_extend_ai.runs import RunKind

__all__ = ["DEPLOYMENTS", "Deployed", "JobVariable", "deployment_plan", "job_variables"]

DEPLOYMENTS = files("prefect_extend_ai.deployments")


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is kept of an existing deployment.

    Attributes:
        parameters: the parameters of its flow.
        paused: whether it is paused, and is to stay paused.
        scheduled: whether it has schedules, active or not.
        job_variables: what it changes in its work pool's base job template.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False
    scheduled: bool = False
    job_variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: DeploymentResponse, *, resume: bool) -> Deployed:
        """What is kept of this one; `resume` ends its pause."""
        return cls(found.parameters, found.paused and not resume, bool(found.schedules), found.job_variables or {})


def deployment_plan(
    name: str,
    pool: str,
    kinds: Iterable[RunKind] = (RunKind.CLASSIFY,),
    there: Mapping[str, Deployed] | None = None,
    *,
    variables: Mapping[str, Any] | None = None,
    scheduled: bool = True,
) -> dict[str, Any]:
    """The shipped prefect.yaml with one sweep for each kind, the cancel by ids, and the advice on limits.

    Args:
        name: of the block, and of the deployments but for the kinds other than classify.
        pool: the work pool.
        kinds: the kinds of run to sweep.
        there: the existing deployments, by `FLOW/NAME`. Deploying them again keeps their parameters except the block,
            their schedules, by not naming any, their job variables, and a pause, which Prefect would end.
        variables: job variables to set, beside those that are there.
        scheduled: whether the schedule of a new deployment is active.
    """
    plan: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text("utf-8"))
    sweep, *others = plan["deployments"]
    sweeps = [_of_kind(sweep, name, kind) for kind in kinds]
    plan["deployments"] = [*sweeps, *(each | {"name": name} for each in others)]
    flows = ["cancel-stale-runs"] * len(sweeps) + ["cancel-runs", "advise-limits"]
    for flow, deployment in zip(flows, plan["deployments"], strict=True):
        before = (there or {}).get(f"{flow}/{deployment['name']}", Deployed())
        deployment["parameters"] = {
            **deployment["parameters"],
            **before.parameters,
            "credentials": block_reference(name),
        }
        deployment["work_pool"] = {"name": pool}
        if together := {**before.job_variables, **(variables or {})}:
            deployment["work_pool"]["job_variables"] = together
        if before.paused:
            deployment["paused"] = True
        schedules = deployment.pop("schedules", [])
        if schedules and not before.scheduled:
            deployment["schedules"] = schedules if scheduled else [each | {"active": False} for each in schedules]
    return plan


def _of_kind(sweep: Mapping[str, Any], name: str, kind: RunKind) -> dict[str, Any]:
    deployment: dict[str, Any] = copy.deepcopy(dict(sweep))
    deployment["name"] = deployment_name(name, kind)
    deployment["description"] = deployment["description"].replace("Extend runs", f"Extend {kind} runs")
    deployment["parameters"]["kind"] = kind.value
    # A minute after the kind before it: on SQLite, sweeps that write at once can stall Prefect's server for a minute.
    if later := list(RunKind).index(kind):
        for schedule in deployment["schedules"]:
            schedule["cron"] = schedule["cron"].replace("*/15", f"{later}-59/15")
    return deployment


def _check_variable(_: object, words: tuple[str, ...] | None) -> None:
    for each in words or ():
        key, equals, _value = each.partition("=")
        if not (key.strip() and equals):
            # A ValueError would be printed after the whole tuple.
            raise CycloptsError(msg=f"--job-variable: {each!r} is not KEY=VALUE.")


JobVariable = Annotated[
    tuple[str, ...], Parameter(name="--job-variable", negative="", show_default=False, validator=_check_variable)
]
"""A command-line option, to be repeated, that sets a job variable: KEY=VALUE."""


def job_variables(words: Iterable[str]) -> dict[str, Any]:
    """Job variables from KEY=VALUE; a value that is a JSON object, list, number, true or false is that."""
    return {key.strip(): _value(text) for key, _, text in (each.partition("=") for each in words)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
