"""Whether a listing applies its filters: an ignored one would select other people's runs."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendNotFoundError, ExtendRefusedError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.rules.pages import PAGES_UNSORTED, next_page
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.stop import Stop

__all__ = ["contradiction", "ignored_filter", "unconfirmed_filters"]

_SHOWN_AS = {"source": "source", "batch_id": "batchId"}
"""The filters that say where a run comes from, and the field of a run that tells, where its kind has one."""


def contradiction(run: Run, policy: StalePolicy) -> str | None:
    """What shows that a filter is ignored: a listed run that says it is of another source or batch."""
    for name, field in _SHOWN_AS.items():
        wanted, said = getattr(policy, name), run.raw.get(field)
        if wanted is None or not isinstance(said, str):
            continue
        if said != wanted and (name == "batch_id" or said.casefold() != wanted.casefold()):
            return _words(name, f"asked for {name}={wanted}, it shows {run.id}, which is of {said}")
    return None


def unconfirmed_filters(run: Run, policy: StalePolicy) -> set[str]:
    """The filters of which a listed run does not say itself that it belongs."""
    return {
        name
        for name, field in _SHOWN_AS.items()
        if getattr(policy, name) is not None and not isinstance(run.raw.get(field), str)
    }


async def ignored_filter(
    client: ExtendClient,
    kind: RunKind,
    policy: StalePolicy,
    names: Collection[str],
    listed: Collection[str],
    *,
    stop: Stop | None = None,
) -> str | None:
    """Ask the same with another value: what shows that one of these filters is ignored, None where nothing does.

    A batch that cannot exist has no runs, and a run has one source only. So runs in the first, or the same runs in the
    second, are there because nobody looked at the filter. A server that refuses the value has read it.

    Args:
        client: an open client.
        kind: the kind of run.
        policy: the sweep's policy.
        names: the filters to try.
        listed: ids of the runs that the sweep's own listing showed.
        stop: once set, nothing more is read.
    """
    for name in sorted(names, reverse=True):
        wanted = getattr(policy, name)
        other = _another(name, wanted)
        filters = {each: getattr(policy, each) for each in ("source", "batch_id", "file_name_contains")}
        pages = client.iter_pages(kind, **{**filters, name: other})
        try:
            for _ in range(PAGES_UNSORTED):
                page = await next_page(pages, stop)
                if page is None:
                    break
                same = [run.id for run in page.runs if name == "batch_id" or run.id in listed]
                if same or (name == "batch_id" and page.unreadable):
                    shown = same[0] if same else "something"
                    return _words(name, f"asked for {name}={other} instead of {wanted}, it still shows {shown}")
                if page.runs:
                    break
        except (ExtendRefusedError, ExtendNotFoundError):
            continue
    return None


def _another(name: str, wanted: str) -> str:
    if name == "batch_id":
        return f"bpr_{secrets.token_hex(10)}"
    # Both are sources of every kind that has any (vendor's SDK 1.20.0).
    return "STUDIO" if wanted.casefold() != "studio" else "API"


def _words(name: str, shown: str) -> str:
    return (
        f"Extend's listing ignores {name}: {shown}. Runs of others would be cancelled, so none was. Leave {name} empty "
        "and select by only_processors or except_runs instead, or ask Extend's support."
    )
