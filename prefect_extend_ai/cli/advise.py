"""`prefect-extend-ai advise`: which limit is right, from the account's own history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter, validators
from prefect.client.orchestration import PrefectClient
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_extend_ai.cli.blocks import BlockName, saved_block
from prefect_extend_ai.cli.reach import deployment_of, prefect_api
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendInputError, RecordError
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.rendering.advice import TAIL, backtest_cell, minutes_cell, suggestion_cell
from prefect_extend_ai.rendering.words import instant
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.advice import MOST_RUNS, LimitAdvice, ProcessorAdvice, TotalAdvice, advise
from prefect_extend_ai.sweep.policy import DEFAULT_POLICY, LONGEST_MINUTES, StalePolicy

__all__ = ["InForce", "advice_on", "run_advise"]

NO_LIMIT = 60
"""Minutes: the limit of a sweep for which nobody has chosen one."""
BAR = 40
"""Characters of the longest bar."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The limits that a sweep runs with.

    Attributes:
        minutes: max_processing_minutes.
        policy: the sweep's policy, whose limits by processor count too.
    """

    minutes: int = NO_LIMIT
    policy: StalePolicy = DEFAULT_POLICY


async def run_advise(
    *,
    kind: Annotated[KindName, Parameter(show_choices=True)] = "classify",
    runs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=MOST_RUNS))] = 5000,
    limit: Annotated[int | None, Parameter(validator=validators.Number(gte=1, lte=LONGEST_MINUTES))] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False,
    name: BlockName = "extend",
) -> None:
    """Say how long the runs that finished last took, and which limit is right for each processor.

    Raises ExtendError where Extend cannot be read.

    Args:
        kind: Kind of run.
        runs: Number of finished runs to read, the latest first.
        limit: Limit in minutes to ask about; by default that of the deployed sweep, or else 60.
        as_json: Print JSON.
        name: Name of the block and of the deployment.
    """
    credentials, in_force = await _account(name, RunKind(kind))
    if limit is not None:
        in_force = InForce(limit, in_force.policy)
    advice = await advice_on(credentials, RunKind(kind), in_force, runs)
    if as_json:
        print(json.dumps(advice.as_json(), indent=2))  # noqa: T201  # for programs: never coloured or folded
        return
    _show(Console(soft_wrap=True, highlight=False), advice)


async def advice_on(credentials: ExtendCredentials, kind: RunKind, in_force: InForce, runs: int = 5000) -> LimitAdvice:
    """The advice for an account. Raises ExtendError where its runs cannot be read."""
    async with credentials.get_client() as client:
        return await advise(
            client, kind, max_runs=runs, max_processing_minutes=in_force.minutes, policy=in_force.policy
        )


async def _account(name: str, kind: RunKind) -> tuple[ExtendCredentials, InForce]:
    """The account of EXTEND_*, or else of the saved block; and the limits in force, as far as Prefect can be asked."""
    settings = ExtendSettings()
    saved: ExtendCredentials | None = None
    in_force = InForce()
    try:
        async with prefect_api() as prefect:
            saved = None if settings.api_key else await saved_block(prefect, name)
            in_force = await _in_force(prefect, name, kind)
    except RecordError:
        if settings.api_key is None:
            raise
    if saved is None and settings.api_key is None:
        raise ExtendInputError(f'there is no account: set EXTEND_API_KEY, or save the block "{name}" with setup')
    return saved or settings.credentials(), in_force


async def _in_force(prefect: PrefectClient, name: str, kind: RunKind) -> InForce:
    deployment = await deployment_of(prefect, "cancel-stale-runs", name)
    parameters = deployment.parameters if deployment else {}
    if parameters.get("kind", "classify") != kind.value:
        return InForce()
    try:
        policy = StalePolicy.model_validate(parameters.get("policy") or {})
        return InForce(int(parameters.get("max_processing_minutes", NO_LIMIT)), policy)
    except (ValidationError, TypeError, ValueError):
        return InForce()


def _show(console: Console, advice: LimitAdvice) -> None:
    console.print(f"{advice.headline}.\n", markup=False)
    if not advice.all.finished:
        return
    for line in _bars(advice):
        console.print(line)
    console.print()
    console.print(_table(advice))
    since = f"since {instant(advice.since)}" if advice.since else "that Extend lists"
    total = advice.all
    console.print(
        f"\nRuns {since}: {total.finished:,} finished, {total.failed:,} failed, {total.cancelled:,} cancelled; "
        f"{total.in_progress:,} in progress. A duration includes the time in the queue: an upper bound."
    )
    if any(each.tail_unknown and each.finished for each in advice.processors):
        console.print(f"unknown: {TAIL}")
    if minutes := advice.minutes_by_processor:
        console.print(
            f"\nFor the policy of the sweep:\n  {json.dumps({'minutes_by_processor': minutes})}", markup=False
        )


def _bars(advice: LimitAdvice) -> Iterator[Text]:
    """A bar for each limit: the share of all healthy runs that it would have cancelled."""
    total = advice.all
    yield Text("Healthy runs that a limit would have cancelled", style="bold")
    for minutes, count in total.would_have_cancelled.items():
        length = 0 if count is None else -(-BAR * count // total.finished)
        mark = "  <- in force" if minutes == total.limit_minutes else ""
        bar = "█" * length
        yield Text.assemble(
            f"{minutes:>7} min  ", (bar, "yellow"), " " if bar else "", f"{backtest_cell(count, total.finished)}{mark}"
        )


def _table(advice: LimitAdvice) -> Table:
    table = Table("processor")
    differ = len({each.limit_minutes for each in advice.processors}) > 1
    now = "over its limit" if differ else f"over {advice.limit_minutes} min"
    for title in ("finished", "median", "p95", "p99", "longest", "suggested", now):
        table.add_column(title, justify="right")
    rows: list[ProcessorAdvice | TotalAdvice] = [*advice.processors]
    if len(rows) > 1:
        rows.append(advice.all)
    for each in rows:
        processor = "all"
        if isinstance(each, ProcessorAdvice):
            processor = visible(each.processor, 80) if each.processor is not None else "inline configuration"
        spans = (each.median_minutes, each.p95_minutes, each.p99_minutes, each.longest_minutes)
        table.add_row(
            Text(processor),
            f"{each.finished:,}",
            *(minutes_cell(minutes, each) for minutes in spans),
            suggestion_cell(each),
            backtest_cell(each.would_have_cancelled_now, each.finished),
        )
    return table
