"""Look for the runs that replace cancelled ones, among the newest runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.resubmission.plan import RESUBMIT_OF
from prefect_extend_ai.sweep.rules.ordering import Order

__all__ = ["MOST_ROWS", "LookedTooFar", "find_successors"]

PAGE = 100
"""Runs a page."""

MOST_ROWS = 5000
"""Runs that are looked through at most."""


class LookedTooFar(ExtendError):
    """The newest runs are too many to look through."""


async def find_successors(
    client: ExtendClient, kind: RunKind, created_after: Mapping[str, datetime | None], **filters: str | None
) -> dict[str, str]:
    """By cancelled run, the run that replaces it, where there is one.

    Args:
        client: an open client.
        kind: the kind of run.
        created_after: by cancelled run, when a successor was created at the earliest; None where that is not known.
        filters: what else is known of the successors, as `iter_pages` takes it.

    Raises:
        LookedTooFar: The listing is too long to be looked through.
        ExtendError: The listing cannot be read.
    """
    found: dict[str, str] = {}
    known = [moment for moment in created_after.values() if moment is not None]
    since = min(known) if len(known) == len(created_after) else None
    order = Order("createdAt", descending=True)
    rows = 0
    newest = client.iter_pages(kind, status=None, sort_by="createdAt", sort_dir="desc", page_size=PAGE, **filters)
    async for page in newest:
        for run in page.runs:
            order.see(run)
            replaces = run.metadata.get(RESUBMIT_OF)
            if isinstance(replaces, str) and replaces in created_after and run.id != replaces:
                found[replaces] = run.id
        rows += len(page.runs)
        if found.keys() == created_after.keys():
            break
        if page.runs and order.is_any_shown and since is not None and _is_before(page.runs[-1], since):
            break
        if rows >= MOST_ROWS:
            raise LookedTooFar(f"a run that replaces it could not be looked for among the newest {MOST_ROWS:,}")
    return found


def _is_before(run: Run, since: datetime) -> bool:
    """Whether a run, and with it all that follow, was created before this, in the order of either time."""
    return all(moment is not None and moment < since for moment in (run.created_at, run.updated_at))
