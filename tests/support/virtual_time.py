"""An event loop in virtual time: hours of sweeps take milliseconds, and every wait has to end."""

from __future__ import annotations

import asyncio
from collections import deque


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its clock leaps to the next timer.

    Attributes:
        virtual: its time; a test adds to it where the process is to stand still.
        lateness: by how much later the next waits end, one after the other.
    """

    def __init__(self):
        super().__init__()
        self.virtual = 0.0
        self.lateness = deque()
        select = self._selector.select

        def leap(timeout):
            if timeout is None:
                raise RuntimeError("nothing will ever happen: a wait without a deadline")
            if timeout > 0:
                self.virtual += timeout + (self.lateness.popleft() if self.lateness else 0)
            return select(0)

        self._selector.select = leap

    def time(self):
        return self.virtual
