"""An event loop in virtual time: hours of sweeps take milliseconds, and every wait has to end."""

from __future__ import annotations

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its clock leaps to the next timer."""

    def __init__(self):
        super().__init__()
        self.virtual = 0.0
        select = self._selector.select

        def leap(timeout):
            if timeout is None:
                raise RuntimeError("nothing will ever happen: a wait without a deadline")
            self.virtual += max(timeout, 0)
            return select(0)

        self._selector.select = leap

    def time(self):
        return self.virtual
