"""Run ids as people paste them, and which kind of run an id looks like: pure.

The vendor calls ids opaque and may change their prefixes at any time: a prefix decides only where to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs.kinds import RunKind

__all__ = ["check_kind", "guess_kind", "kind_of_run", "looks_like", "split_run_ids", "without_known_prefix"]

SHOWN = 3
"""Most ids of one kind that a message names."""

_BETWEEN = re.compile(r"[\s,;]+")


def split_run_ids(texts: Iterable[str]) -> list[str]:
    """The ids in these texts: several in one are split at commas and white space; of an address, the id is taken.

    Text without an id is kept unchanged, so that its check can name it.
    """
    return [_without_address(word) for text in texts for word in _BETWEEN.split(text) if word]


def looks_like(run_id: str) -> RunKind | None:
    """The kind whose prefix the id has; None for a prefix that is not known."""
    return next((kind for kind in RunKind if run_id.startswith(kind.id_prefix)), None)


def without_known_prefix(run_ids: Iterable[str]) -> list[str]:
    """Those of the ids that look like no kind."""
    return [run_id for run_id in run_ids if looks_like(run_id) is None]


def guess_kind(run_ids: Sequence[str]) -> RunKind:
    """The kind of the first id that looks like one; classify where none does. `check_kind` says whether all agree."""
    return next((kind for run_id in run_ids if (kind := looks_like(run_id)) is not None), RunKind.CLASSIFY)


def check_kind(run_ids: Sequence[str], kind: RunKind, *, named: bool) -> None:
    """Raise ExtendInputError where ids look like another kind than this one; nothing is sent for any of them then.

    Args:
        run_ids: the ids.
        kind: the kind that they are to be of.
        named: whether somebody named the kind. Then an id that looks like none may be of it; where it was guessed from
            the other ids, nobody can know.
    """
    found: dict[RunKind | None, list[str]] = {}
    for run_id in run_ids:
        found.setdefault(looks_like(run_id), []).append(run_id)
    if named:
        found.pop(None, None)
    if found.keys() <= {kind} or (kind is RunKind.CLASSIFY and found.keys() <= {None}):
        return
    if named:
        found.pop(kind, None)
        other = next(each for each in found if each is not None)
        instead = f"name {other}, or no kind at all" if len(found) == 1 else "name the ids of one kind at a time"
        raise ExtendInputError(f"the kind is {kind}, but {_looks(found)}: {instead}")
    raise ExtendInputError(
        f"these ids are not of one kind: {_looks(found)}. Name the ids of one kind at a time, or the kind"
    )


def kind_of_run(run_id: str, kind: RunKind | str | None) -> RunKind:
    """The kind of one run: the one that is named, or else the one that its id looks like, or else classify.

    Raises ExtendInputError where the two differ, or the kind is none.
    """
    found = RunKind(kind) if kind else guess_kind([run_id])
    check_kind([run_id], found, named=bool(kind))
    return found


def _looks(found: dict[RunKind | None, list[str]]) -> str:
    return ", ".join(f"{_some(ids)} {_like(kind, len(ids))}" for kind, ids in found.items())


def _like(kind: RunKind | None, count: int) -> str:
    verb = "looks" if count == 1 else "look"
    if kind is None:
        return f"{verb} like no kind that is known"
    article = "an" if kind.value[0] in "aeiou" else "a"
    return f"{verb} like {article} {kind} run" if count == 1 else f"{verb} like {kind} runs"


def _some(run_ids: Sequence[str]) -> str:
    shown = ", ".join(repr(run_id[:60]) for run_id in run_ids[:SHOWN])
    return f"{shown} and {len(run_ids) - SHOWN:,} more" if len(run_ids) > SHOWN else shown


def _without_address(word: str) -> str:
    """The id in an address such as https://dashboard.extend.ai/runs/clr_1; another word unchanged."""
    if not word.lower().startswith(("http://", "https://")):
        return word
    try:
        parts = [part for part in urlsplit(word).path.split("/") if part]
    except ValueError:
        return word
    known = [part for part in parts if looks_like(part) is not None]
    return known[-1] if known else parts[-1] if parts else word
