"""`prefect-extend-ai purge`: delete records, of single runs or old ones."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from prefect_extend_ai.cli.help_texts import FAILED
from prefect_extend_ai.cli.reach import prefect_api
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.prefect_io.purging import Step, purge
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import check_run_id
from prefect_extend_ai.runs.ids import split_run_ids

__all__ = ["run_purge"]

DONE = {Step.DELETE: "deleted", Step.REWRITE: "written again without", Step.KEEP_OPEN: "kept, still open"}
WOULD = {
    Step.DELETE: "would be deleted",
    Step.REWRITE: "would be written again without",
    Step.KEEP_OPEN: "would be kept",
}
SHOWN = 5


async def run_purge(
    *,
    run: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    older_than: Annotated[int | None, Parameter(validator=Number(gte=1, lte=36_500))] = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Delete records, and print a line for each.

    Returns the exit code: 0, or 1 where a run that was named is still open.

    Args:
        run: Runs whose final objects are to be deleted: ids, or addresses in Extend's dashboard.
        older_than: Days; delete every record that is older.
        dry_run: Only say what would be deleted.
    """
    run_ids = list(dict.fromkeys(split_run_ids(run or [])))
    if bool(run_ids) == (older_than is not None):
        raise ExtendInputError("say what to purge: either --run ID... or --older-than DAYS")
    for run_id in run_ids:
        check_run_id(run_id)
    before = datetime.now(UTC) - timedelta(days=older_than) if older_than is not None else None
    console = Console(soft_wrap=True, highlight=False)
    done: Counter[Step] = Counter()
    left = set(run_ids)
    async with prefect_api() as prefect:
        async for artifact, each in purge(prefect, run_ids=run_ids, before=before, dry_run=dry_run):
            done[each.step] += 1
            left.difference_update(each.run_ids)
            shown = ", ".join(visible(run_id, 80) for run_id in each.run_ids[:SHOWN])
            more = f" and {len(each.run_ids) - SHOWN:,} more" if len(each.run_ids) > SHOWN else ""
            what = (WOULD if dry_run else DONE)[each.step]
            console.print(f"record {artifact.id} {what}: {shown}{more}", markup=False)
    for run_id in sorted(left):
        console.print(f"no record of {visible(run_id, 80)}", markup=False)
    if not done and not run_ids:
        console.print(f"No record is older than {older_than} days.", markup=False)
    return FAILED if run_ids and done[Step.KEEP_OPEN] else 0
