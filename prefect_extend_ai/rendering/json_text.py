"""Indenting JSON text without parsing it, so that every literal stays as it was sent."""

from __future__ import annotations

import re

from prefect_extend_ai._json import TOKEN
from prefect_extend_ai.rendering.inert import HIDDEN

__all__ = ["pretty_json"]

INDENTED_LIMIT = 1_000_000
"""Characters. Indenting can multiply the size, and Prefect Cloud accepts 5 MiB a request."""
DEEPEST = 20
"""Levels of indentation; deeper ones share the last."""


def pretty_json(text: str) -> str:
    r"""The same JSON, indented; it parses to the same object.

    Literals, the order of keys and repeated keys are untouched (`1.50` stays `1.50`). Hidden characters in strings
    become `\u202e` escapes. Text that would exceed `INDENTED_LIMIT` keeps its layout.
    """
    shown = HIDDEN.sub(_as_json_escape, text)
    lines = _indented(shown) if len(shown) <= INDENTED_LIMIT else shown
    return lines if len(lines) <= INDENTED_LIMIT else shown


def _indented(text: str) -> str:
    breaks = ["\n" + "  " * level for level in range(DEEPEST + 1)]
    pieces: list[str] = []
    depth, before = 0, ""
    for piece in TOKEN.findall(text):
        if piece in "}]":
            depth = max(depth - 1, 0)
            if before not in ("{", "["):
                pieces.append(breaks[min(depth, DEEPEST)])
        elif before in ("{", "[", ","):
            pieces.append(breaks[min(depth, DEEPEST)])
        pieces.append(": " if piece == ":" else piece)
        if piece in "{[":
            depth += 1
        before = piece
    return "".join(pieces)


def _as_json_escape(hidden: re.Match[str]) -> str:
    units = hidden[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
