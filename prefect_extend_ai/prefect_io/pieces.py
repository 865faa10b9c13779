"""Long texts in an artifact's metadata, which Prefect copies into no event.

Prefect cuts off each value at 500 characters, so a text is kept in pieces.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["in_pieces", "joined"]

PIECE = 500
"""Characters of a metadata value that Prefect keeps."""


def in_pieces(name: str, text: str) -> dict[str, str]:
    """A text as metadata: in how many pieces it is there, and each of them by its number."""
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return {name: str(len(pieces))} | {f"{name}_{place}": piece for place, piece in enumerate(pieces)}


def joined(name: str, metadata: Mapping[str, str] | None) -> str | None:
    """The text again; None where the metadata hold none, or not the whole of it."""
    found = metadata or {}
    try:
        return "".join(found[f"{name}_{place}"] for place in range(int(found[name])))
    except (KeyError, ValueError):
        return None
