"""`prefect-extend-ai check`: does every deployment of the sweep watch, and if not, what is to be done?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter
from prefect.client.orchestration import PrefectClient
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from prefect_extend_ai.cli.accounts import Account, check_account
from prefect_extend_ai.cli.blocks import BlockName, differing_fields, saved_block
from prefect_extend_ai.cli.findings import Finding, Verdict, judge_pending
from prefect_extend_ai.cli.fleet import SWEEP, Member, kind_of, read_fleet
from prefect_extend_ai.cli.help_texts import FAILED
from prefect_extend_ai.cli.limits import check_limits
from prefect_extend_ai.cli.reach import prefect_api
from prefect_extend_ai.cli.references import missing_blocks
from prefect_extend_ai.cli.retention import check_retention
from prefect_extend_ai.cli.sweeps import Watches
from prefect_extend_ai.cli.unswept import same_account
from prefect_extend_ai.cli.watch import judge_schedules, judge_watch
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendInputError, RecordError
from prefect_extend_ai.prefect_io import pending_intents
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.rules.policy import StalePolicy

__all__ = ["Seen", "accounts_of", "check_prefect", "run_check"]

COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
DEFAULT_NAME = "extend"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the checks of Prefect are about.

    Attributes:
        prefect: its open client.
        fleet: every deployment of ours.
        blocks: the saved block of each name that is checked; None where there is none.
        missing: what is wrong with each deployment that names a block which does not exist, by its name.
        now: the current time.
    """

    prefect: PrefectClient
    fleet: Sequence[Member]
    blocks: dict[str, ExtendCredentials | None] = field(default_factory=dict)
    missing: dict[str, list[Finding]] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


async def run_check(
    *,
    name: BlockName | None = None,
    kind: Annotated[KindName | None, Parameter(show_choices=True)] = None,
) -> int:
    """Check every deployment and its account, and print what is to be done where one does not watch.

    Returns the exit code: 0, or 1 where a finding is marked fail.

    Args:
        name: Name of a block to check beside those that deployments name; extend, if none names any.
        kind: Kind of run to read first; the kind that the account's deployment sweeps, if there is one.
    """
    findings, accounts = await check_prefect(name)
    first = [
        finding
        for account in accounts
        for finding in await check_account(account, RunKind(kind) if kind else None, several=len(accounts) > 1)
    ]
    console = Console(soft_wrap=True, highlight=False)
    for each in [*first, *findings]:
        console.print(Text.assemble((f"{each.verdict:<6}", COLOURS[each.verdict]), f"{each.subject:<12}{each.text}"))
    return FAILED if any(each.verdict is Verdict.FAIL for each in [*first, *findings]) else 0


async def check_prefect(name: str | None = None) -> tuple[list[Finding], list[Account]]:
    """Check Prefect's API, blocks, deployments and sweeps; returns the accounts that are to be asked too."""
    found: list[Finding] = []
    accounts = [Account(name or DEFAULT_NAME)]
    try:
        async with prefect_api() as prefect:
            found.append(Finding("Prefect", Verdict.OK, f"{without_password(prefect.api_url)} answers"))
            seen = Seen(prefect, await read_fleet(prefect))
            named = sorted({each.block for each in seen.fleet if each.block} | ({name} if name else set()))
            seen.blocks.update({each: await saved_block(prefect, each) for each in named or [DEFAULT_NAME]})
            seen.missing.update(await missing_blocks(prefect, seen.fleet))
            accounts = accounts_of(seen)
            for check in PREFECT_CHECKS:
                found += await check(seen)
    except RecordError as error:
        found.append(Finding("Prefect", Verdict.FAIL, str(error)))
    return found, accounts


def accounts_of(seen: Seen) -> list[Account]:
    """One for each saved block; two that read the same runs have the same kinds swept."""
    sweeps = [(each, parameters) for each in seen.fleet if each.flow == SWEEP for parameters in each.sweeps]
    accounts = []
    saved = {name: block for name, block in seen.blocks.items() if block is not None}
    for name, block in (saved or seen.blocks).items():
        same = {
            other
            for other, its in seen.blocks.items()
            if other == name or (block is not None and its is not None and same_account(block, its))
        }
        mine = [parameters for member, parameters in sweeps if member.block in same]
        swept = frozenset(kind for parameters in mine if (kind := kind_of(parameters)) is not None)
        first = next((kind for kind in RunKind if kind in swept), RunKind.CLASSIFY)
        policies = [parameters.get("policy") or {} for parameters in mine if kind_of(parameters) is first]
        accounts.append(Account(name, block, swept, first, _policy(policies[0]) if policies else None))
    return accounts


def _policy(written: object) -> StalePolicy | None:
    try:
        return StalePolicy.model_validate(written)
    except ValidationError:
        return None


async def _check_blocks(seen: Seen) -> list[Finding]:
    return [_judge_block(name, block, alone=len(seen.blocks) == 1) for name, block in seen.blocks.items()]


def _judge_block(name: str, block: ExtendCredentials | None, *, alone: bool) -> Finding:
    how = f"prefect-extend-ai setup --name {visible(name, 80)}"
    if block is None:
        return Finding("Block", Verdict.FAIL, f'"{visible(name, 80)}" is not saved: {how}')
    try:
        block.ensure_usable()
        # With several blocks, the environment can be that of one of them only.
        settings = ExtendSettings() if alone else None
        differing = differing_fields(block, settings.credentials()) if settings and settings.api_key else []
    except ExtendInputError as error:
        return Finding("Block", Verdict.FAIL, f'"{visible(name, 80)}": {error}')
    if differing:
        text = f'"{visible(name, 80)}" is saved, and is what sweeps use; EXTEND_* differs in {", ".join(differing)}'
        return Finding("Block", Verdict.WARN, f"{text}. To overwrite the block: {how}")
    return Finding("Block", Verdict.OK, f'"{visible(name, 80)}" is saved')


async def _check_references(seen: Seen) -> list[Finding]:
    return [finding for its in seen.missing.values() for finding in its]


async def _check_sweeps(seen: Seen) -> list[Finding]:
    read = Watches(seen.prefect, seen.fleet, seen.now)
    watches = [await read.watch(each) for each in seen.fleet if each.flow == SWEEP]
    if not watches:
        how = "prefect-extend-ai setup, or without a work pool prefect-extend-ai serve"
        return [Finding("Sweeps", Verdict.FAIL, f"no deployment sweeps: {how}")]
    real = {(each.kind, each.block) for each in watches if each.is_real}
    found = []
    for each in watches:
        finding = judge_watch(each, seen.now, real)
        if each.name in seen.missing and finding.verdict is not Verdict.FAIL:
            finding = Finding(finding.subject, Verdict.FAIL, f"{finding.text}; its block does not exist")
        found += [finding, *judge_schedules(each)]
    return found


async def _check_others(seen: Seen) -> list[Finding]:
    """The deployments that do not sweep: cancel by ids, alarms, digests."""
    read, found = Watches(seen.prefect, seen.fleet, seen.now), []
    for member in seen.fleet:
        # Of one that names a block that is not there, another line says so.
        if member.flow != SWEEP and member.name not in seen.missing:
            worker, ready, paused, how = await read.worker(member)
            block = f"block {visible(member.block, 80)}, " if member.block else ""
            problem = paused or (None if ready else f"no worker is running: {how}")
            found.append(
                Finding("Deployment", Verdict.WARN, f"{member.name}: {problem}")
                if problem
                else Finding("Deployment", Verdict.OK, f"{member.name}: {block}{worker}")
            )
    return found


async def _check_pending(seen: Seen) -> list[Finding]:
    blocks = [block for block in seen.blocks.values() if block is not None]
    return judge_pending(await pending_intents(seen.prefect), blocks, seen.now)


async def _check_limits(seen: Seen) -> list[Finding]:
    return await check_limits(seen.fleet, seen.blocks)


async def _check_retention(seen: Seen) -> list[Finding]:
    found = await check_retention(seen.prefect)
    return [found] if found is not None else []


PREFECT_CHECKS: tuple[Callable[[Seen], Awaitable[list[Finding]]], ...] = (
    _check_blocks,
    _check_references,
    _check_sweeps,
    _check_others,
    _check_pending,
    _check_limits,
    _check_retention,
)
"""What is checked in Prefect, in the order in which it is printed."""
