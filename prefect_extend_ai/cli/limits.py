"""The limits that sweeps run with, and what they would have cancelled: for `advise`, `check` and `setup`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from prefect_extend_ai.cli.findings import Finding, Verdict
from prefect_extend_ai.cli.fleet import Member, kind_of
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.rules.advice import LimitAdvice, advise
from prefect_extend_ai.sweep.rules.learning import LEARNERS
from prefect_extend_ai.sweep.rules.policy import DEFAULT_POLICY, StalePolicy

__all__ = ["InForce", "advice_on", "check_limits", "in_force", "judge_limit", "limit_words"]

NO_LIMIT = 60
"""Minutes: the limit of a sweep for which nobody has chosen one."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The limits that a sweep runs with.

    Attributes:
        minutes: max_processing_minutes.
        policy: the sweep's policy, whose limits by processor count too.
    """

    minutes: int = NO_LIMIT
    policy: StalePolicy = DEFAULT_POLICY


def in_force(parameters: Mapping[str, Any]) -> InForce:
    """The limits that a sweep with these parameters runs with; the flow's own where they cannot be read."""
    try:
        policy = StalePolicy.model_validate(parameters.get("policy") or {})
        return InForce(int(parameters.get("max_processing_minutes", NO_LIMIT)), policy)
    except (ValidationError, TypeError, ValueError):
        return InForce()


async def advice_on(credentials: ExtendCredentials, kind: RunKind, limits: InForce, runs: int = 5000) -> LimitAdvice:
    """The advice for an account. Raises ExtendError where its runs cannot be read."""
    async with credentials.get_client() as client:
        return await advise(client, kind, max_runs=runs, max_processing_minutes=limits.minutes, policy=limits.policy)


async def limit_words(credentials: ExtendCredentials, parameters: Mapping[str, Any]) -> str:
    """What the limits of a sweep with these parameters would have cancelled, or why that is not known."""
    kind = parameters.get("kind") or RunKind.CLASSIFY.value
    try:
        limits = in_force(parameters)
        return judge_limit(await advice_on(credentials, RunKind(kind), limits), limits.policy).text
    except ExtendError as error:
        return f"{kind} runs: not known, {str(error).splitlines()[0]}"


async def check_limits(fleet: Iterable[Member], blocks: Mapping[str, ExtendCredentials | None]) -> list[Finding]:
    """A finding for each kind and limit that is swept with a block that can be read."""
    found: list[Finding] = []
    seen: list[tuple[str, RunKind, InForce]] = []
    for member in fleet:
        for parameters in member.sweeps:
            block, kind = blocks.get(member.block or ""), kind_of(parameters)
            if block is None or kind is None:
                continue
            this = (member.block or "", kind, in_force(parameters))
            if this in seen:
                continue
            seen.append(this)
            try:
                advice = await advice_on(block, kind, this[2])
            except ExtendError:
                continue  # another finding says what is wrong with the account
            found.append(judge_limit(advice, this[2].policy, block=this[0] if len(blocks) > 1 else ""))
    return found


def judge_limit(advice: LimitAdvice, policy: StalePolicy = DEFAULT_POLICY, *, block: str = "") -> Finding:
    """Whether the limits in force cancel healthy runs.

    Args:
        advice: what the account's history says.
        policy: the sweep's policy, which says whether limits are learned.
        block: name of its block, where there are others.
    """
    whose = f"block {visible(block, 80)}: " if block else ""
    own = len({each.limit_minutes for each in advice.processors}) > 1
    yours = "your limits" if own else f"your limit of {advice.limit_minutes}"
    count, kind = advice.all.would_have_cancelled_now, advice.kind
    if advice.all.has_too_few:
        return Finding("Limit", Verdict.OK, f"{whose}too few {kind} runs have finished to judge {yours}")
    healthy = f"of the last {advice.all.finished:,} healthy {kind} runs"
    see = f"see prefect-extend-ai advise --kind {kind}"
    if count is None:
        text = f"{whose}how many healthy {kind} runs {yours} cancels is unknown: more than 1 % were cancelled; {see}"
        return Finding("Limit", Verdict.OK, text)
    if not count:
        return Finding("Limit", Verdict.OK, f"{whose}{yours} would have cancelled none {healthy}")
    learns = policy.learn_limits and advice.kind in LEARNERS and _all_learn(advice, policy)
    more = ", but sweeps learn longer limits for their processors" if learns else ""
    return Finding("Limit", Verdict.WARN, f"{whose}{yours} would have cancelled {count:,} {healthy}{more}: {see}")


def _all_learn(advice: LimitAdvice, policy: StalePolicy) -> bool:
    """Whether each processor whose healthy runs would have been cancelled is one that a longer limit is learned for."""
    return all(
        each.processor is not None
        and each.processor not in policy.minutes_by_processor
        and each.suggested_minutes is not None
        and each.suggested_minutes > each.limit_minutes
        for each in advice.processors
        if each.would_have_cancelled_now
    )
