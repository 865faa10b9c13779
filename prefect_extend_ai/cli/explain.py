"""`prefect-extend-ai explain`: what happened to these runs?"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from prefect_extend_ai.cli.blocks import BlockName, saved_block
from prefect_extend_ai.cli.reach import prefect_api
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError, ExtendInputError, ExtendNotFoundError
from prefect_extend_ai.prefect_io.artifacts import record_url
from prefect_extend_ai.prefect_io.links import events_url, url_for
from prefect_extend_ai.prefect_io.run_history import read_run_history
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.rendering.words import age, instant, plain
from prefect_extend_ai.runs import KindName, Run, RunKind, check_run_id
from prefect_extend_ai.runs.ids import check_kind, guess_kind, split_run_ids, without_known_prefix
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.resubmission.plan import RESUBMIT_OF
from prefect_extend_ai.sweep.run_history import RunEvent

__all__ = ["run_explain"]


@dataclass(frozen=True, slots=True)
class Explained:
    """What is known of one run.

    Attributes:
        run_id: its id.
        kind: its kind.
        run: the run as Extend has it now; None where it has none, or could not be asked.
        problem: why there is none.
        history: what happened to it, oldest first.
        looked_back_to: since when reports are there; None where there is none.
    """

    run_id: str
    kind: RunKind
    run: Run | None
    problem: str
    history: Sequence[RunEvent]
    looked_back_to: datetime | None

    def to_json(self) -> dict[str, Any]:
        """The shape that scripts read."""
        return {
            "run_id": self.run_id,
            "kind": self.kind.value,
            "status": self.run.status if self.run else None,
            "history": [each.model_dump(mode="json") for each in self.history],
            "looked_back_to": self.looked_back_to.isoformat() if self.looked_back_to else None,
        }


async def run_explain(
    *run_ids: str,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    kind: Annotated[KindName | None, Parameter(show_choices=True)] = None,
    name: BlockName = "extend",
) -> int:
    """Say what Extend has of each run now, and what sweeps did with it.

    Returns the exit code.

    Args:
        run_ids: The runs: ids, or addresses in Extend's dashboard.
        as_json: Print JSON, for scripts.
        kind: Kind of run; what the ids' prefixes say, if not named.
        name: Name of the block to ask Extend with; EXTEND_* if it is not saved.
    """
    asked = split_run_ids(run_ids)
    by_kind = _by_kind(asked, RunKind(kind) if kind else None)
    found: dict[str, Explained] = {}
    async with prefect_api() as prefect:
        credentials = await saved_block(prefect, name) or ExtendSettings().credentials()
        for its, ids in by_kind.items():
            histories, since = await read_run_history(prefect, its, ids)
            for run_id, (run, problem) in (await _read(credentials, its, ids)).items():
                found[run_id] = Explained(run_id, its, run, problem, histories[run_id], since)
    ordered = [found[run_id] for run_id in dict.fromkeys(asked)]
    if as_json:
        for each in ordered:
            if each.problem:
                print(f"{each.run_id}: {each.problem}", file=sys.stderr)  # noqa: T201  # not among the JSON
        print(json.dumps([each.to_json() for each in ordered], indent=2))  # noqa: T201  # no console folds JSON
    else:
        console = Console(soft_wrap=True, highlight=False)
        for each in ordered:
            for line in _lines(each):
                console.print(line, markup=False)
    return 0


def _by_kind(run_ids: Sequence[str], kind: RunKind | None) -> dict[RunKind, list[str]]:
    if not run_ids:
        raise ExtendInputError("no run ids were given: name the runs to explain")
    found: dict[RunKind, list[str]] = {}
    for run_id in dict.fromkeys(run_ids):
        check_run_id(run_id)
        its = kind or guess_kind([run_id])
        check_kind([run_id], its, named=kind is not None)
        found.setdefault(its, []).append(run_id)
    if kind is None and (unknown := without_known_prefix(run_ids)):
        shown = ", ".join(visible(each, 80) for each in unknown[:3])
        print(f"Taken for classify runs, since their prefix is not known: {shown}", file=sys.stderr)  # noqa: T201
    return found


async def _read(
    credentials: ExtendCredentials, kind: RunKind, run_ids: Sequence[str]
) -> dict[str, tuple[Run | None, str]]:
    found: dict[str, tuple[Run | None, str]] = {}
    async with credentials.get_client() as client:
        for run_id in run_ids:
            try:
                found[run_id] = (await client.get_run(run_id, kind), "")
            except ExtendNotFoundError:
                found[run_id] = (None, f"Extend knows no such {kind} run in this workspace and environment")
            except ExtendError as error:
                found[run_id] = (None, f"Extend could not be asked: {error}")
    return found


def _lines(each: Explained) -> Iterator[str]:
    yield f"{visible(each.run_id)}  {each.kind}  {_now(each)}"
    if each.run is not None and (dashboard := each.run.dashboard_url):
        yield f"  dashboard  {visible(dashboard, 300)}"
    if events := events_url(each.kind, each.run_id):
        yield f"  events     {events}"
    for _, alike in itertools.groupby(each.history, key=lambda event: (event.outcome, event.reason)):
        yield from _of(list(alike))
    if each.run is not None and (replaced := each.run.metadata.get(RESUBMIT_OF)):
        yield f"  A sweep, or resubmit_run, created it: its document's run {visible(str(replaced))} was cancelled."
    if not each.history:
        yield "  No event, report, record or pending cancel intent names it as one that a sweep was to cancel."
    since = (
        f"Reports go back to {instant(each.looked_back_to)}" if each.looked_back_to else "No sweep has left a report"
    )
    yield f"  {since}; of what was before, nothing is known."
    yield ""


def _now(each: Explained) -> str:
    if each.run is None:
        return each.problem
    last = f", last change {instant(each.run.updated_at)}" if each.run.updated_at else ""
    old = f" ({age(each.run.age_minutes)} ago)" if last and each.run.age_minutes is not None else ""
    failure = f" ({visible(each.run.failure_reason, 80)})" if each.run.failure_reason else ""
    return f"{visible(each.run.status or 'no status', 40)}{failure} now{last}{old}"


def _of(alike: list[RunEvent]) -> Iterator[str]:
    """What happened once, or again and again: sweeps defer a run that is pending each time."""
    first, last = alike[0], alike[-1]
    reason = f": {visible(first.reason, 500)}" if first.reason else ""
    yield f"  {instant(first.at)}  {plain(first.outcome)}{reason}"
    if len(alike) > 1:
        yield f"      and {len(alike) - 1:,} times more, the last at {instant(last.at)}"
    if last.flow_run_id is not None:
        yield f"      sweep   {url_for('flow-run', obj_id=last.flow_run_id) or last.flow_run_id}"
    if last.is_record_deleted:
        yield "      record  deleted"
    elif last.record is not None:
        yield f"      record  {record_url(last.record) or last.record}"
    if last.resubmitted_as is not None:
        yield f"      submitted again as {visible(last.resubmitted_as)}"
