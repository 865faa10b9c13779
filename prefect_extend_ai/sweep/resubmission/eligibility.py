"""Which of the runs that are about to be cancelled were created over the API: a run itself does not say.

Only those can be submitted again. A run of a batch, a workflow, an evaluation or the studio belongs to something that
would not know of the new run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace

from prefect_extend_ai.client import LARGEST_PAGE, ExtendClient, Page
from prefect_extend_ai.runs import PROCESSING, RunKind
from prefect_extend_ai.sweep.origin import contradiction, ignored_filter, unconfirmed_filters
from prefect_extend_ai.sweep.resubmission.plan import NOT_OVER_THE_API, Place, place_of, plan_for
from prefect_extend_ai.sweep.rules.pages import next_page, pages_in_progress
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.targets import Target

__all__ = ["MOST_ROWS", "OverTheApi", "find_created", "plan_named", "plan_stale"]

API = "API"
"""The source of a run that was created over the API (vendor's SDK 1.20.0)."""

MOST_ROWS = 5000
"""Rows of a listing that are read at most to find named runs."""


@dataclass(slots=True)
class OverTheApi:
    """The runs that a listing with `source=API` shows.

    Attributes:
        places: where each stands among the runs of its document; None where that cannot be read.
        why_not: why none of them may be submitted again, where the listing ignores the source.
        is_cut: whether the listing was not read to its end, because it is long.
    """

    places: dict[str, Place | None] = field(default_factory=dict)
    why_not: str | None = None
    is_cut: bool = False

    def plan(self, target: Target, limit: int | None) -> Target:
        """The target with its plan."""
        listed = target.run_id in self.places
        missing = f"it is not among the newest {MOST_ROWS:,} created over the API" if self.is_cut else NOT_OVER_THE_API
        why_not = self.why_not or (None if listed else missing)
        place = self.places[target.run_id] if listed else Place(target.run_id)
        plan = plan_for(place, target.run_id, limit=limit, why_not=why_not)
        return replace(target, plan=plan.model_copy(update={"updated_at": target.updated_at}))


async def plan_stale(
    client: ExtendClient,
    kind: RunKind,
    targets: Sequence[Target],
    *,
    limit_minutes: int,
    policy: StalePolicy,
    stop: Stop,
) -> list[Target]:
    """Stale runs, each with its plan. Raises ExtendError where the listing cannot be read."""
    if not targets or not policy.resubmit:
        return list(targets)
    if policy.source is not None and policy.source.casefold() != API.casefold():
        return [OverTheApi().plan(target, policy.resubmit) for target in targets]
    only = policy.model_copy(update={"source": API})

    async def pages() -> AsyncIterator[Page]:
        async for page, _ in pages_in_progress(client, kind, limit_minutes, only):
            yield page

    found = await _read(client, kind, only, pages(), stop=stop)
    return [found.plan(target, policy.resubmit) for target in targets]


async def plan_named(client: ExtendClient, kind: RunKind, targets: Sequence[Target], stop: Stop) -> list[Target]:
    """Runs that somebody named, each with its plan. Raises ExtendError where the listing cannot be read."""
    found = await find_created(client, kind, {target.run_id for target in targets}, stop, status=PROCESSING)
    return [found.plan(target, None) for target in targets]


async def find_created(
    client: ExtendClient,
    kind: RunKind,
    wanted: Collection[str],
    stop: Stop,
    *,
    status: str | None,
    processor_id: str | None = None,
    file_name_contains: str | None = None,
) -> OverTheApi:
    """Those of some runs that were created over the API. Raises ExtendError where the listing cannot be read.

    Args:
        client: an open client.
        kind: the kind of run.
        wanted: ids of the runs.
        stop: once set, no further page is read.
        status: the status that they are listed with.
        processor_id: their processor, where it is known.
        file_name_contains: the name of their file, where it is known.
    """
    only = StalePolicy(source=API, file_name_contains=file_name_contains)
    pages = client.iter_pages(
        kind,
        status=status,
        sort_by="createdAt",
        sort_dir="desc",
        page_size=LARGEST_PAGE,
        source=API,
        file_name_contains=file_name_contains,
        processor_id=processor_id,
    )
    return await _read(client, kind, only, pages, stop=stop, wanted=wanted)


async def _read(
    client: ExtendClient,
    kind: RunKind,
    only: StalePolicy,
    pages: AsyncIterator[Page],
    *,
    stop: Stop,
    wanted: Collection[str] | None = None,
) -> OverTheApi:
    """What the pages show; read on until all `wanted` are there, where it says which, and through this many rows."""
    found = OverTheApi()
    unconfirmed: set[str] = set()
    rows = 0
    while (page := await next_page(pages, stop)) is not None:
        for run in page.runs:
            if (contradicts := contradiction(run, only)) is not None:
                return OverTheApi(why_not=_cannot_tell(contradicts))
            unconfirmed |= unconfirmed_filters(run, only)
            found.places[run.id] = place_of(run.id, run.metadata)
        rows += len(page.runs)
        found.is_cut = wanted is not None and rows >= MOST_ROWS
        if found.is_cut or (wanted is not None and found.places.keys() >= {*wanted}):
            break
    if "source" in unconfirmed:
        ignored = await ignored_filter(client, kind, only, {"source"}, found.places.keys(), stop=stop)
        if ignored is not None:
            return OverTheApi(why_not=_cannot_tell(ignored))
    return found


def _cannot_tell(shown: str) -> str:
    return f"whether it was created over the API is not known: {shown.partition('. ')[0]}"
