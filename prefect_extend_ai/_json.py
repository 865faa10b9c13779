"""A JSON reader that accepts extreme nesting and numbers: one run must not make its whole page unreadable."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["TOKEN", "parse_json"]

# A string, a punctuation mark, or a bare literal. Every character but white space belongs to one.
TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)

LONGEST_WHOLE_NUMBER = 4000
"""Digits. Python does not parse integers of more than 4300; longer ones become floats, as in JavaScript."""
DEEPEST = 100
"""Levels kept of JSON that is nested too deeply to parse; deeper values become an ellipsis."""


def parse_json(text: str) -> Any:
    """Parse `text`. Raises ValueError for text that is not JSON, and nothing else.

    Metadata is whatever a run's creator wrote. Nesting beyond Python's limit and very long numbers are simplified:
    decisions do not use them, and records are made from the text.
    """
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        return json.loads(_shallow(text), parse_int=_whole_number)


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_WHOLE_NUMBER else float(digits)


def _shallow(text: str) -> str:
    kept: list[str] = []
    depth = 0
    for token in TOKEN.findall(text):
        depth += (token in ("{", "[")) - (token in ("}", "]"))
        if depth <= DEEPEST:
            # Of a value that is too deep, only its end arrives here.
            kept.append('"…"' if token in ("}", "]") and depth == DEEPEST else token)
    return "".join(kept)
