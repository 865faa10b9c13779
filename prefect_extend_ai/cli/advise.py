"""`prefect-extend-ai advise`: which limit is right, from the account's own history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_extend_ai.cli.blocks import BlockName, deployment_name, saved_block
from prefect_extend_ai.cli.fleet import SWEEP
from prefect_extend_ai.cli.limits import InForce, advice_on, in_force
from prefect_extend_ai.cli.reach import deployment_of, prefect_api
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendInputError, RecordError
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.rendering.advice import TAIL, backtest_cell, minutes_cell, suggestion_cell
from prefect_extend_ai.rendering.words import instant
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.rules.advice import MOST_RUNS, LimitAdvice, ProcessorAdvice, TotalAdvice
from prefect_extend_ai.sweep.rules.policy import LONGEST_MINUTES

__all__ = ["run_advise"]

BAR = 40
"""Characters of the longest bar."""
TABLE_WIDTH = 104
"""Columns that the table takes with whole ids."""


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
    credentials, limits = await _account(name, RunKind(kind))
    if limit is not None:
        limits = InForce(limit, limits.policy)
    advice = await advice_on(credentials, RunKind(kind), limits, runs)
    if as_json:
        print(json.dumps(advice.as_json(), indent=2))  # noqa: T201  # for programs: never coloured or folded
        return
    _show(Console(soft_wrap=True, highlight=False), advice)


async def _account(name: str, kind: RunKind) -> tuple[ExtendCredentials, InForce]:
    """The account of EXTEND_*, or else of the saved block; and the limits in force, as far as Prefect can be asked."""
    settings = ExtendSettings()
    saved: ExtendCredentials | None = None
    limits = InForce()
    try:
        async with prefect_api() as prefect:
            saved = None if settings.api_key else await saved_block(prefect, name)
            sweep = await deployment_of(prefect, SWEEP, deployment_name(name, kind))
            limits = in_force(sweep.parameters if sweep else {})
    except RecordError:
        if settings.api_key is None:
            raise
    if saved is None and settings.api_key is None:
        raise ExtendInputError(f'there is no account: set EXTEND_API_KEY, or save the block "{name}" with setup')
    return saved or settings.credentials(), limits


def _show(console: Console, advice: LimitAdvice) -> None:
    console.print(f"{advice.headline}.\n", markup=False)
    if not advice.all.finished:
        return
    for line in _bars(advice):
        console.print(line)
    console.print()
    # An id that is cut is of no use: a terminal that is narrower wraps the lines.
    console.print(_table(advice), width=max(console.width, TABLE_WIDTH), crop=False)
    since = f"since {instant(advice.since)}" if advice.since else "that Extend lists"
    total = advice.all
    console.print(
        f"\nRuns {since}: {total.finished:,} finished, {total.failed:,} failed, {total.cancelled:,} cancelled; "
        f"{total.in_progress:,} in progress. A duration includes the time in the queue: an upper bound."
    )
    if any(each.tail_unknown and each.finished for each in advice.processors):
        console.print(f"Unknown (?): {TAIL}")
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
    table = Table("processor", title="Minutes that healthy runs took, and the suggested limit", title_justify="left")
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
            *map(minutes_cell, spans),
            suggestion_cell(each),
            backtest_cell(each.would_have_cancelled_now, each.finished),
        )
    return table
