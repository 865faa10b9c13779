"""JSON text laid out for reading, without parsing it: what parsing would change stays as it was sent."""

from __future__ import annotations

import re

from prefect_extend_ai._json import TOKEN
from prefect_extend_ai.rendering.inert import HIDDEN

__all__ = ["pretty_json"]

LAID_OUT_LIMIT = 1_000_000
"""Characters. Beyond it nobody reads, and indenting can multiply the size: Prefect Cloud takes 5 MiB a request."""
DEEPEST = 20
"""Levels that are indented; deeper ones share the last indentation."""


def pretty_json(text: str) -> str:
    r"""The same JSON, indented; it parses to the same object.

    Literals, the order of keys and repeated keys are untouched (`1.50` stays `1.50`). Hidden characters in strings
    become `\u202e` escapes. Text that would pass `LAID_OUT_LIMIT` keeps the layout it came with.
    """
    shown = HIDDEN.sub(_as_json_escape, text)
    lines = _laid_out(shown) if len(shown) <= LAID_OUT_LIMIT else shown
    return lines if len(lines) <= LAID_OUT_LIMIT else shown


def _laid_out(text: str) -> str:
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
