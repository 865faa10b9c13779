"""Whether a flow run has a name that somebody gave it, or one that Prefect or we made up."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from prefect.context import FlowRunContext

__all__ = ["current_name", "is_made_up", "keep_given_name"]

_SLUG = re.compile(r"[a-z]+-[a-z]+")
# What Prefect's UI (3.8 to 3.9.1) puts into its form of a custom run: `Incredible-Beagle`.
_FORM_NAME = re.compile(
    "(Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|Practical"
    "|Ergonomic|Handcrafted|Tasty|Handmade|Incredible)-[A-Z][^-]{,5}"
)


def keep_given_name(name: str) -> str:
    """This name for the flow run that begins, or its own where somebody gave it one.

    Prefect takes whatever a flow's `flow_run_name` says, over the name that `run_deployment` or a person gave.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    if flow_run is None or flow_run.auto_scheduled or is_made_up(flow_run.name, name):
        return name
    return flow_run.name


def current_name() -> str:
    """The name with which the flow run began; empty outside of one."""
    context = FlowRunContext.get()
    return context.flow_run.name if context is not None and context.flow_run is not None else ""


def is_made_up(current: str, ours: str) -> bool:
    """Whether a name is one that Prefect or its UI made up (`auspicious-wombat`), or ours from an earlier attempt.

    Args:
        current: the name.
        ours: the name that we give at the start.
    """
    if current == ours or current.startswith(f"{ours}: ") or _FORM_NAME.fullmatch(current):
        return True
    words = current.split("-")
    # Of the generator's own words: `nightly-sweep` looks the same, and somebody chose it.
    return _SLUG.fullmatch(current) is not None and (not _slug_words() or _slug_words().issuperset(words))


@functools.cache
def _slug_words() -> frozenset[str]:
    """Every word that Prefect's names are made of; none where a later Prefect makes them in another way."""
    try:
        import coolname  # noqa: PLC0415  # for those runs only that nobody scheduled
        from coolname.loader import load_config  # noqa: PLC0415

        lists: dict[str, Any] = dict(load_config(str(Path(coolname.__file__).parent / "data")))
    except Exception:  # noqa: BLE001 - a name is worth no failed sweep
        return frozenset()
    return frozenset(word for each in lists.values() for word in each.get("words", ()))
