"""Whether a listing really is in the order that was asked for: a server may ignore a parameter silently.

Everything here is pure: runs come in one by one, and the evidence grows or is refuted.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from prefect_extend_ai.runs import Run

__all__ = ["ORDER_SHOWN_BY", "Order", "SortBy"]

SortBy = Literal["updatedAt", "createdAt"]

ORDER_SHOWN_BY = 20
"""Different times in a row that show an order. A few may be in order by chance."""


class Order:
    """What the runs seen so far say of a listing's order.

    Args:
        sort_by: the time that was asked to be sorted by.
        descending: whether the latest was asked for first.
    """

    def __init__(self, sort_by: SortBy = "updatedAt", *, descending: bool = False) -> None:
        self._sort_by = sort_by
        self._asked = _Row(descending)
        # A server that ignores `sortBy` may well sort, by the other time.
        self._other = _Row(descending)

    def see(self, run: Run) -> None:
        """Take the next run of the listing."""
        times = run.updated_at, run.created_at
        asked, other = times if self._sort_by == "updatedAt" else times[::-1]
        self._asked.see(asked)
        self._other.see(other)

    @property
    def is_shown(self) -> bool:
        """Whether enough runs came, all of them in the order asked for."""
        return self._asked.in_order and self._asked.different >= ORDER_SHOWN_BY

    @property
    def is_any_shown(self) -> bool:
        """Whether enough runs came, all of them in the order of the one time or of the other."""
        return any(row.in_order and row.different >= ORDER_SHOWN_BY for row in (self._asked, self._other))

    @property
    def last(self) -> datetime | None:
        """The latest seen of the times asked for."""
        return self._asked.last

    def rest_is_young(self, now: datetime, limit: timedelta) -> bool:
        """Whether no run that is still to come, earliest first, is older than `limit`.

        Where all that was seen is in order by the other time too, it may be this order that the server keeps. A run
        changes after it was created: one that was created lately was changed lately, and not the other way round.
        """
        if not self.is_shown or not _is_within(self._asked.last, now, limit):
            return False
        by_changes = self._sort_by == "updatedAt"
        return not self._other.in_order or (by_changes and _is_within(self._other.last, now, limit))


class _Row:
    """Times one after the other."""

    def __init__(self, descending: bool) -> None:
        self._descending = descending
        self.last: datetime | None = None
        self.different = 0
        self.in_order = True

    def see(self, moment: datetime | None) -> None:
        if moment is None:
            return
        if moment != self.last:
            self.different += 1
            if self.last is not None:
                self.in_order = self.in_order and (moment < self.last) == self._descending
        self.last = moment


def _is_within(moment: datetime | None, now: datetime, limit: timedelta) -> bool:
    return moment is not None and now - moment <= limit
