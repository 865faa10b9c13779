"""JSON of any sort, read without giving up: one run must never hide the others that are listed with it."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["TOKEN", "parse_json"]

# A string, a mark, or a bare literal. Every character but white space belongs to one, so nothing is dropped.
TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)

LONGEST_WHOLE_NUMBER = 4000
"""Digits. Python refuses to read longer ones (4300); they become what JavaScript makes of them."""
DEEPEST = 100
"""Levels that are kept of JSON that nests too deep to be read; what lies below becomes an ellipsis."""


def parse_json(text: str) -> Any:
    """The value that `text` is. Raises ValueError for text that is no JSON, and for nothing else.

    Metadata is whatever a run's creator wrote. Where it nests beyond what Python reads, or has numbers as long as a
    page, it is read as far as that goes: decisions need none of it, and records are made from the text.
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
            # Of a value that lies too deep only its end is seen here.
            kept.append('"…"' if token in ("}", "]") and depth == DEEPEST else token)
    return "".join(kept)
