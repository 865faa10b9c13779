"""Checks of one account at Extend: what its key reads, and what is stale there."""

from __future__ import annotations

from dataclasses import dataclass

from prefect_extend_ai.cli.findings import Finding, Verdict, judge_clock, judge_holds
from prefect_extend_ai.cli.unswept import count_unswept, judge_unswept
from prefect_extend_ai.client import Page
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendAuthError, ExtendError
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.rules.policy import StalePolicy

__all__ = ["Account", "check_account", "check_extend", "newest"]


@dataclass(frozen=True, slots=True)
class Account:
    """An account to ask Extend with.

    Attributes:
        name: name of its block.
        block: the saved block; None if there is none, and EXTEND_* is asked with.
        swept: the kinds that deployments sweep.
        kind: the kind to read first.
        policy: the policy of the deployment that sweeps that kind, if it can be read.
    """

    name: str
    block: ExtendCredentials | None = None
    swept: frozenset[RunKind] = frozenset()
    kind: RunKind = RunKind.CLASSIFY
    policy: StalePolicy | None = None


async def check_account(account: Account, kind: RunKind | None = None, *, several: bool = False) -> list[Finding]:
    """Check one account at Extend: can its key read runs, and are there stale ones that nobody sweeps?"""
    found = await check_extend(account, kind or account.kind, several=several)
    if account.block is None or any(each.verdict is Verdict.FAIL for each in found):
        return found
    unswept = await count_unswept(account.block, account.swept)
    return [*found, *judge_unswept(unswept, block=account.name, several=several)]


async def check_extend(account: Account, kind: RunKind, *, several: bool = False) -> list[Finding]:
    """Check that the key of the saved block, or else that of the environment, can read runs.

    Args:
        account: the account. Where its policy is known, runs in progress are checked for holds that have no effect.
        kind: the kind of run to read.
        several: whether there are other accounts, and each is named.
    """
    block, policy, name, oldest = account.block, account.policy, account.name if several else "", None
    source = (f"the saved block {visible(name, 80)}" if name else "the saved block") if block else "EXTEND_*"
    try:
        credentials = block or ExtendSettings().credentials()
        page = await newest(credentials, kind)
        if policy is not None:
            async with credentials.get_client() as client:
                oldest = await anext(aiter(client.iter_pages(kind)))
    except ExtendError as error:
        how = ""
        if block is not None and isinstance(error, ExtendAuthError):
            to = f"EXTEND_API_KEY=... prefect-extend-ai setup --block-only --name {visible(account.name, 80)}"
            how = f". To save the block with another key: {to}"
        return [Finding("Extend", Verdict.FAIL, (f"{source}: {error}" if name else str(error)) + how)]
    where = credentials.workspace_id or (
        f"the own workspace of the key of {name}" if name else "the key's own workspace"
    )
    found = [Finding("Extend", Verdict.OK, f"the key of {source} reads {kind} runs at {credentials.api_url}")]
    if page.runs:
        found.append(
            Finding("Workspace", Verdict.OK, f"{where}; its newest {kind} run is {visible(page.runs[0].id, 80)}")
        )
    else:
        doubt = "is it the right one, and the key of the right environment (test or production)?"
        found.append(Finding("Workspace", Verdict.WARN, f"{where} has no {kind} runs at all: {doubt}"))
    holds = judge_holds(oldest.runs, policy) if oldest and policy else None
    return [*found, judge_clock(page), *([holds] if holds else [])]


async def newest(credentials: ExtendCredentials, kind: RunKind = RunKind.CLASSIFY) -> Page:
    """A page with the newest run of a kind; empty if there is none. Raises ExtendError if the key cannot read."""
    async with credentials.get_client() as client:
        return await anext(aiter(client.iter_pages(kind, status=None, sort_dir="desc", page_size=1)))
