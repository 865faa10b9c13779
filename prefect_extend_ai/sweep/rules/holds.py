"""Whether somebody holds a run, by its metadata: held in doubt, never cancelled in doubt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.rules.policy import StalePolicy

__all__ = ["is_held", "looks_held", "same_key"]

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HOLDING = frozenset({"hold", "onhold", "held"})


def is_held(run: Run, policy: StalePolicy) -> bool:
    """Whether somebody holds the run: its metadata has the hold key, set to something true.

    Case, hyphens, underscores and spaces make no difference, and a dot may also lead into a nested object:
    `ops.hold` is `{"ops.hold": true}` and `{"Ops": {"hold": true}}`. Any text but the empty one is true, "false"
    included.
    """
    ahead: list[tuple[Mapping[str, Any], str]] = [(run.metadata, _plain(policy.hold_key))]
    while ahead:
        values, wanted = ahead.pop()
        for key, value in values.items():
            name = _plain(key)
            if (name == wanted or key == policy.hold_key) and value:
                return True
            if isinstance(value, dict) and wanted.startswith(f"{name}."):
                ahead.append((value, wanted[len(name) + 1 :]))
    return False


def looks_held(run: Run, policy: StalePolicy) -> bool:
    """Whether the metadata of a run that is not held has a key that looks like a hold, set to something true.

    A key looks like one by one of its words: `ops_hold` and `onHold` do, `threshold` and `account_holder` do not.
    """
    ahead: list[Any] = [run.metadata]
    while ahead:
        value = ahead.pop()
        if isinstance(value, list):
            ahead += value
        elif isinstance(value, dict):
            if any(inner and _is_hold_word(key) for key, inner in value.items()):
                return not is_held(run, policy)
            ahead += value.values()
    return False


def same_key(key: str, wanted: str) -> bool:
    """Whether two metadata keys are the same but for case, hyphens, underscores and spaces."""
    return _plain(key) == _plain(wanted)


def _plain(key: str) -> str:
    return re.sub(r"[-_\s]", "", key).casefold()


def _is_hold_word(key: str) -> bool:
    return any(word.lower() in _HOLDING for word in _WORDS.findall(key))
