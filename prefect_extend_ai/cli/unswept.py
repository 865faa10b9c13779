"""What is stale in an account, by kind, and who sweeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from prefect_extend_ai.cli.findings import Finding, Verdict
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import (
    ExtendError,
    ExtendNotFoundError,
    ExtendPermissionError,
    ExtendRefusedError,
)
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.rules.policy import DEFAULT_POLICY, StalePolicy
from prefect_extend_ai.sweep.scan import Scan, guarded_scan, learned_scan

__all__ = ["Unswept", "count_unswept", "judge_unswept", "same_account", "what_a_sweep_would_do"]

DEFAULT_NAME = "extend"
"""The name that `setup` gives where none is typed."""
DEFAULT_LIMIT = 60
"""Minutes without a change after which a run that no deployment sweeps counts as stale: the flow's own default."""
OF_ONE_KIND = (ExtendPermissionError, ExtendNotFoundError, ExtendRefusedError)
"""Errors that concern one kind of run, and say nothing of the others."""


@dataclass(frozen=True, slots=True)
class Unswept:
    """A kind of run that no deployment sweeps.

    Attributes:
        kind: the kind.
        stale: how many of its runs are stale; None where they could not be listed.
        problem: why not.
    """

    kind: RunKind
    stale: int | None = None
    problem: str = ""


async def count_unswept(credentials: ExtendCredentials, swept: Iterable[RunKind]) -> list[Unswept]:
    """How many runs are stale of each kind that is not swept. Ends where Extend cannot be read at all."""
    missing = [kind for kind in RunKind if kind not in set(swept)]
    found: list[Unswept] = []
    try:
        async with credentials.get_client() as client:
            for kind in missing:
                try:
                    survey = await learned_scan(client, kind, DEFAULT_LIMIT, DEFAULT_POLICY)
                except OF_ONE_KIND as error:
                    found.append(Unswept(kind, problem=_first_line(error)))
                else:
                    found.append(Unswept(kind, len(survey.stale)))
    except ExtendError as error:
        found += [Unswept(kind, problem=_first_line(error)) for kind in missing[len(found) :][:1]]
    return found


def judge_unswept(unswept: Sequence[Unswept], *, block: str, several: bool = False) -> list[Finding]:
    """Warn of each kind that nobody sweeps and that has stale runs, or that the key cannot list.

    Args:
        unswept: the kinds, counted.
        block: name of the account's block.
        several: whether other accounts are checked too, so that the block is to be named.
    """
    subject, found = "Not swept", []
    whose = f"block {visible(block, 80)}: " if several else ""
    for each in unswept:
        if each.stale is None:
            text = f"{whose}{each.kind} runs cannot be listed, and no deployment sweeps them: {each.problem}"
            found.append(Finding(subject, Verdict.WARN, text))
        elif each.stale:
            which = f"{each.stale:,} {each.kind} run{' is' if each.stale == 1 else 's are'} stale"
            named = "" if block == DEFAULT_NAME else f" --name {visible(block, 80)}"
            how = f"prefect-extend-ai setup{named} --kind {each.kind}"
            text = f"{whose}{which}, and no deployment sweeps {'it' if each.stale == 1 else 'them'}: {how}"
            found.append(Finding(subject, Verdict.WARN, text))
    if clean := [each.kind.value for each in unswept if each.stale == 0]:
        text = f"{whose}no stale runs of the kinds that no deployment sweeps: {', '.join(clean)}"
        found.append(Finding(subject, Verdict.OK, text))
    return found


async def what_a_sweep_would_do(credentials: ExtendCredentials, parameters: Mapping[str, Any]) -> Scan | str:
    """What a sweep with these parameters would find now, its guards asked; or why that is not known."""
    try:
        policy = StalePolicy.model_validate(parameters.get("policy") or {})
        kind = RunKind(parameters.get("kind") or RunKind.CLASSIFY)
        async with credentials.get_client() as client:
            return await guarded_scan(client, kind, parameters.get("max_processing_minutes", DEFAULT_LIMIT), policy)
    except (ExtendError, ValidationError, TypeError, ValueError) as error:
        return _first_line(error)


def same_account(one: ExtendCredentials, other: ExtendCredentials) -> bool:
    """Whether two blocks read the same runs: without a workspace's id, the key decides."""
    if (one.api_url, one.workspace_id) != (other.api_url, other.workspace_id):
        return False
    return one.workspace_id is not None or one.api_key.get_secret_value() == other.api_key.get_secret_value()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
