"""Every deployment of this package's flows on a Prefect server, whatever its name, and the block that each names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterId
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import RunKind

__all__ = ["ADVICE", "BY_IDS", "FLOWS", "SWEEP", "Member", "block_name", "id_and_slug", "read_fleet"]

SWEEP = "cancel-stale-runs"
BY_IDS = "cancel-runs"
ADVICE = "advise-limits"
FLOWS = {
    SWEEP: "flows.stale.cancel_stale_runs",
    BY_IDS: "flows.by_id.cancel_runs",
    ADVICE: "flows.advise.advise_limits",
    "raise-alarm": "deployments.examples.raise_alarm",
    "send-digest": "deployments.examples.send_digest",
    "inform-owner": "deployments.examples.inform_owner",
}
"""The flows that are deployed, by name, with the end of the entrypoint of each."""
PAGE = 200
"""Deployments in one read: Prefect's own limit."""


@dataclass(frozen=True, slots=True)
class Member:
    """A deployment of one of `FLOWS`.

    Attributes:
        flow: which of them, by the name that it has here.
        name: `FLOW/DEPLOYMENT`, as Prefect's commands take it; the flow may have been given another name.
        deployment: as Prefect has it.
        block: name of the block that its parameters refer to; None if they refer to none, or to one that is not there.
    """

    flow: str
    name: str
    deployment: DeploymentResponse
    block: str | None = None

    @property
    def kind(self) -> RunKind | None:
        """The kind of run that it names; None for one that Extend does not have."""
        return kind_of(self.deployment.parameters)

    @property
    def sweeps(self) -> Iterator[Mapping[str, Any]]:
        """The parameters of its sweeps: as its schedules start them, or else its own. One that is off counts too."""
        if self.flow == SWEEP:
            for carried in [each.parameters for each in self.deployment.schedules] or [{}]:
                yield {**self.deployment.parameters, **(carried or {})}


def kind_of(parameters: Mapping[str, Any]) -> RunKind | None:
    """The kind that a flow's parameters name; classify, the flow's default, where they name none."""
    name = parameters.get("kind") or RunKind.CLASSIFY.value
    return RunKind(name) if name in set(RunKind) else None


async def read_fleet(prefect: PrefectClient) -> list[Member]:
    """Every deployment of `FLOWS`, by the flow's name or by its entrypoint, those of `serve` too; by name."""
    deployments = [each async for each in _all_deployments(prefect)]
    ids = list({each.flow_id for each in deployments})
    names: dict[UUID, str] = {}
    for start in range(0, len(ids), PAGE):
        wanted = FlowFilter(id=FlowFilterId(any_=ids[start : start + PAGE]))
        names |= {flow.id: flow.name for flow in await prefect.read_flows(flow_filter=wanted, limit=PAGE)}
    found = []
    for each in deployments:
        flow_name = names.get(each.flow_id, "")
        if flow := which_flow(flow_name, each.entrypoint):
            block = await block_name(prefect, each.parameters)
            found.append(Member(flow, visible(f"{flow_name}/{each.name}", 160), each, block))
    return sorted(found, key=lambda member: (list(FLOWS).index(member.flow), member.name))


def which_flow(name: str, entrypoint: str | None) -> str | None:
    """Which of `FLOWS` a deployment runs; None for another flow."""
    # A path or a module, with or without what comes before it: flows/stale.py:cancel_stale_runs
    as_module = (entrypoint or "").replace(".py:", ".").replace("/", ".")
    for flow, ending in FLOWS.items():
        if as_module == ending or as_module.endswith(f".{ending}"):
            return flow
    return name if name in FLOWS else None


async def block_name(prefect: PrefectClient, parameters: Mapping[str, Any]) -> str | None:
    """The name of the block that `credentials` refers to: as written, or as its id says."""
    account = parameters.get("credentials")
    if not (isinstance(account, dict) and "$ref" in account):
        return None
    block_id, slug = id_and_slug(account["$ref"])
    if not block_id:
        return str(slug or "").partition("/")[2] or None
    try:
        return (await prefect.read_block_document(UUID(str(block_id)), include_secrets=False)).name
    except (ObjectNotFound, ValueError):
        return None


def id_and_slug(reference: Any) -> tuple[Any, Any]:
    """As Prefect reads a reference: an id alone, or one of the two by its name; the id wins."""
    if isinstance(reference, dict):
        return reference.get("block_document_id"), reference.get("block_document_slug")
    return reference, None


async def _all_deployments(prefect: PrefectClient) -> AsyncIterator[DeploymentResponse]:
    for offset in count(step=PAGE):
        page = await prefect.read_deployments(limit=PAGE, offset=offset)
        for deployment in page:
            yield deployment
        if len(page) < PAGE:
            return
