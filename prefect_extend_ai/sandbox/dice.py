"""Reproducible random numbers."""

from __future__ import annotations

import random
import string

__all__ = ["dice_of", "new_id"]

_ALPHABET = string.ascii_letters + string.digits + "_-"


def dice_of(seed: str) -> random.Random:
    """A random number generator for this seed. Not for secrets."""
    return random.Random(seed)  # noqa: S311


def new_id(prefix: str, rng: random.Random) -> str:
    """An id like the API's: a prefix and 21 characters."""
    return prefix + "".join(rng.choices(_ALPHABET, k=21))
