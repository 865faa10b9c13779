"""Addresses in texts that people see."""

from __future__ import annotations

import re

__all__ = ["without_password"]

# Up to the last @ before the path: an @ in a password that nobody quoted is not its end.
_USER = re.compile(r"""(?<=://)[^\s/?#"'<>]*@""")


def without_password(text: object) -> str:
    """The text without user and password of any address in it: `http://ada:secret@host/api` is `http://host/api`."""
    return _USER.sub("", str(text))
