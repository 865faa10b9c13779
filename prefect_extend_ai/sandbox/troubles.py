"""Faults of the sandbox, from a script or at random.

A fault rule is written `WHERE:WHICH:WHAT`, with `@FROM-TO` after it to say when: `get:*:503=2@1-3`. docs/sandbox.md
describes the grammar and every fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import get_args

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.sandbox.behaviour import CancelMode
from prefect_extend_ai.sandbox.dice import dice_of

__all__ = ["FAULTS", "WHERE", "Trouble", "Troubles"]

WHERE = ("list", "get", "cancel", "create", "delete", "any")
_ANSWERS = ("reset", "slow", "empty", "html", "list", "redirect")
_CHANGES = ("finish", "status", "touch", "cancel")
_NEED_SECONDS = ("slow", "outage")
FAULTS = (*_ANSWERS, "outage", *_CHANGES)
"""Every fault but the statuses 400 to 599."""

CHAOS_SHARE = 0.15
"""The share of requests that `--chaos` disturbs."""
_CHAOS_MOST = 3
"""Per operation and run `--chaos` disturbs only this many of the first requests, so that retries succeed in the end."""
_CHAOS = (
    *("reset", "reset-after", "slow=0.5", "slow-after=0.5", "500", "500-after", "502", "503=1", "503-after=1", "429=1"),
    *("empty", "empty-after", "html", "html-after", "list-after", "redirect", "400", "409", "422", "408-after"),
    *("finish", "touch", "status=QUARANTINED", "cancel=never", "cancel=finishes", "cancel=later", "cancel=aborted"),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault rule; `Trouble.parse` reads its written form, `str` writes it.

    Attributes:
        after: whether the request takes effect first.
        value: the text after `=`; empty for none.
        first: the first matching request that it applies to, from 1.
        last: the last such request; None for no end.
    """

    where: str
    which: str
    what: str
    value: str = ""
    after: bool = False
    first: int = 1
    last: int | None = 1

    @classmethod
    def parse(cls, text: str) -> Trouble:
        """Read a fault rule. Raises ExtendInputError, which says what is wrong with it."""
        try:
            where, which, rest = text.split(":", 2)
        except ValueError:
            raise ExtendInputError(f"a fault rule is WHERE:WHICH:WHAT, like cancel:*:reset, not {text!r}") from None
        what, at, times = rest.rpartition("@")
        if not at:
            what, times = rest, "1"
        what, _, value = what.partition("=")
        name = what.removesuffix("-after")
        first, dash, last = times.partition("-")
        if where not in WHERE:
            raise ExtendInputError(f"{text!r}: {where!r} is not one of {', '.join(WHERE)}")
        if not first.isdecimal() or (last and not last.isdecimal()) or int(first) < 1:
            raise ExtendInputError(f"{text!r}: @{times} is not of the form @2, @2-4 or @2-")
        trouble = cls(
            where,
            which,
            name,
            value,
            after=what != name,
            first=int(first),
            last=int(last) if last else None if dash else int(first),
        )
        trouble._check(text)
        return trouble

    def _check(self, text: str) -> None:
        is_status = self.what.isdecimal() and 400 <= int(self.what) <= 599
        if not is_status and self.what not in FAULTS:
            raise ExtendInputError(
                f"{text!r}: {self.what!r} is neither a status from 400 to 599 nor one of {', '.join(FAULTS)}"
            )
        if self.after and not (is_status or self.what in _ANSWERS):
            raise ExtendInputError(f"{text!r}: {self.what} has no -after")
        if self.what in _NEED_SECONDS or (is_status and self.value):
            try:
                seconds = float(self.value)
            except ValueError:
                seconds = -1
            if not 0 <= seconds < 86_400:
                raise ExtendInputError(f"{text!r}: {self.what} takes seconds, like {self.what}=2, not {self.value!r}")
        if self.what == "status" and not self.value:
            raise ExtendInputError(f"{text!r}: status takes a name, like status=QUARANTINED")
        if self.what == "cancel" and self.value not in get_args(CancelMode):
            raise ExtendInputError(f"{text!r}: cancel takes one of {', '.join(get_args(CancelMode))}")

    @property
    def seconds(self) -> float:
        """The value of a fault that takes seconds."""
        return float(self.value)

    def matches(self, where: str, which: str) -> bool:
        """Whether it applies to such a request."""
        return self.where in ("any", where) and fnmatchcase(which, self.which)

    def __str__(self) -> str:
        value = f"={self.value}" if self.value else ""
        times = "" if self.last == 1 else f"@{self.first}-{self.last or ''}"
        times = f"@{self.first}" if self.last == self.first != 1 else times
        return f"{self.where}:{self.which}:{self.what}{'-after' if self.after else ''}{value}{times}"


class Troubles:
    """A script of fault rules, and random faults by a seed. The same requests get the same faults every time."""

    def __init__(self, script: Iterable[Trouble | str] = (), chaos: int | None = None) -> None:
        self.script: list[Trouble] = []
        self._chaos = chaos
        self._matched: Counter[int] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._until: dict[int, datetime] = {}
        self.add(*script)

    def add(self, *troubles: Trouble | str) -> None:
        """Add fault rules to the script. Raises ExtendInputError for one that cannot be read."""
        self.script += [each if isinstance(each, Trouble) else Trouble.parse(each) for each in troubles]

    def clear(self) -> None:
        """Remove all fault rules, and their counts."""
        self.script.clear()
        self._matched.clear()
        self._until.clear()

    def strike(self, where: str, which: str, now: datetime) -> Trouble | None:
        """The fault rule that applies to this request, if any."""
        struck: Trouble | None = None
        for number, trouble in enumerate(self.script):
            if not trouble.matches(where, which):
                continue
            self._matched[number] += 1
            strikes = trouble.first <= self._matched[number] <= (trouble.last or self._matched[number])
            if trouble.what == "outage":
                if strikes:
                    self._until.setdefault(number, now + timedelta(seconds=trouble.seconds))
                strikes = number in self._until and now < self._until[number]
            if strikes and struck is None:
                struck = trouble
        if struck is None and self._chaos is not None:
            struck = self._at_random(self._chaos, where, which)
        return struck

    def _at_random(self, seed: int, where: str, which: str) -> Trouble | None:
        self._seen[where, which] += 1
        number = self._seen[where, which]
        rng = dice_of(f"{seed}/{where}/{which}/{number}")
        if rng.random() >= CHAOS_SHARE or (where != "list" and number > _CHAOS_MOST):
            return None
        what = rng.choice(_CHAOS)
        if where in ("list", "create", "other") and what.partition("=")[0] in _CHANGES:
            return None
        # Not parsed from one text: an id may contain a colon.
        return replace(Trouble.parse(f"any:*:{what}"), where=where, which=which)
