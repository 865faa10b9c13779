"""Do the blocks exist that deployments of this package's flows name?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.cli.blocks import SLUG
from prefect_extend_ai.cli.findings import Finding, Verdict
from prefect_extend_ai.cli.fleet import Member, id_and_slug
from prefect_extend_ai.rendering import visible

__all__ = ["missing_blocks"]


async def missing_blocks(prefect: PrefectClient, fleet: Sequence[Member]) -> dict[str, list[Finding]]:
    """The findings for each deployment whose block does not exist, by its name.

    Of its flow runs Prefect reports only that it "failed to resolve block references in parameters".
    """
    found: dict[str, list[Finding]] = {}
    for member in fleet:
        for source, reference in _references(member.deployment):
            if not await _resolves(prefect, reference):
                text = f"{member.name}{source} names {_named(reference)}, which does not exist"
                finding = Finding("Deployment", Verdict.FAIL, f"{text}: {_what_to_do(reference)}")
                found.setdefault(member.name, []).append(finding)
    return found


def _references(deployment: DeploymentResponse) -> Iterator[tuple[str, Any]]:
    """Each reference to a block that flow runs of this deployment would get, and where it is set."""
    own = [("", deployment.parameters)]
    scheduled = [
        (f" (its schedule {visible(schedule.slug or schedule.id, 80)})", schedule.parameters)
        for schedule in deployment.schedules
        if schedule.active
    ]
    for source, parameters in own + scheduled:
        account = (parameters or {}).get("credentials")
        if isinstance(account, dict) and "$ref" in account:
            yield source, account["$ref"]


async def _resolves(prefect: PrefectClient, reference: Any) -> bool:
    block_id, slug = id_and_slug(reference)
    try:
        if block_id:
            await prefect.read_block_document(UUID(str(block_id)), include_secrets=False)
        else:
            block_type, _, name = str(slug or "").partition("/")
            if not (block_type and name):
                return False
            await prefect.read_block_document_by_name(name, block_type, include_secrets=False)
    except (ObjectNotFound, ValueError):
        return False
    return True


def _named(reference: Any) -> str:
    block_id, slug = id_and_slug(reference)
    if block_id:
        return f"the block with the id {visible(block_id, 80)}"
    return f'the block "{visible(slug, 80)}"' if slug else "no block"


def _what_to_do(reference: Any) -> str:
    block_id, slug = id_and_slug(reference)
    block_type, _, name = str(slug or "").partition("/")
    if not block_id and block_type == SLUG and name:
        return f"save it again, prefect-extend-ai setup --block-only --name {visible(name, 80)}, or name another"
    return "choose a saved block in its parameters (Prefect UI, Deployments, Edit)"
