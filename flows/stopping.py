"""Stop sweeps gently: cancelling a flow run sends SIGTERM, and what is in progress is still finished and recorded.

All sweeps of a process share one handler, installed with the first of them and removed with the last. Flows side by
side would otherwise take away each other's: each puts back, at its end, what it found at its start.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect.logging import get_run_logger
from prefect.utilities import engine

from prefect_extend_ai.sweep.stop import Stop

__all__ = ["Stopping", "stopping_gently"]

IN_HAND_SECONDS = 10
"""How long accepted cancels may still take after SIGTERM: Prefect's runner kills 30 seconds after it."""
LOOK_EVERY = 0.2
"""Seconds between looks whether the handler is still installed."""

PREFECTS = "_prefect_sigterm_handler"
"""Where Prefect keeps the handler that it asks for, by identity, before it tells a process why SIGTERM will come."""
PREFECTS_LOCK = "_prefect_sigterm_bridge_lock"

Handler = Any  # what `signal.signal` takes and returns: a function, SIG_DFL, SIG_IGN


class Stopping:
    """One sweep that SIGTERM stops.

    Attributes:
        received: SIGTERM came.
        done: the flow run ends as Cancelled, so that the signal need not be handed on.
    """

    def __init__(self, stop: Stop, say: Callable[[], None] = lambda: None) -> None:
        self.received = False
        self.done = False
        self._stop = stop
        self._say = say

    def begin(self) -> None:
        """Send no further cancel, and finish what is in progress."""
        self.received = True
        self._stop.set("the sweep was stopped (SIGTERM)")
        self._stop.hurry(IN_HAND_SECONDS)
        # Also wakes the event loop: a signal alone does not end its wait.
        self._say()


class _Sweeps:
    """The sweeps of this process, and the handler of SIGTERM that they share."""

    def __init__(self) -> None:
        self._under_way: list[Stopping] = []
        self._received = False
        self._owed = False
        self._before: Handler = signal.SIG_DFL
        self._displaced: Handler = signal.SIG_DFL
        self._handler = self._handle  # one object: a bound method is a new one each time

    def add(self, sweep: Stopping) -> None:
        if not self._under_way:
            self._received = self._owed = False
            self._before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
        self._under_way.append(sweep)
        self.install()
        if self._received:
            sweep.begin()

    def install(self) -> None:
        """Listen to SIGTERM; again, where the end of another flow has put back who listened before that flow."""
        with self._as_prefects(self._handler):
            if signal.getsignal(signal.SIGTERM) != self._handler:
                self._displaced = signal.signal(signal.SIGTERM, self._handler) or signal.SIG_DFL

    def remove(self, sweep: Stopping) -> None:
        """Forget a sweep; after the last one hand the signal on to the handler from before the first."""
        self._under_way.remove(sweep)
        self._owed |= sweep.received and not sweep.done
        if not self._under_way:
            self._give_way()
            if self._owed:
                self._hand_on()

    def _handle(self, *_: object) -> None:
        self._received = True
        for sweep in self._under_way:
            sweep.begin()
        if not self._under_way:
            # Another flow has put back this handler after the last sweep's end.
            self._give_way()
            self._hand_on()

    def _give_way(self) -> None:
        with self._as_prefects(_PREFECTS_OWN):
            if signal.getsignal(signal.SIGTERM) == self._handler:
                signal.signal(signal.SIGTERM, self._displaced)

    def _hand_on(self) -> None:
        """Do what the signal would have done had no sweep been there: Prefect's own handler raises, here."""
        if callable(self._before):
            self._before(signal.SIGTERM, None)
        else:
            signal.raise_signal(signal.SIGTERM)

    @contextmanager
    def _as_prefects(self, handler: Handler) -> Iterator[None]:
        """Within, change the handler; Prefect takes this one for its own from now on.

        Before `prefect flow-run execute` has a run rescheduled it tells the process so, and kills it at once unless
        Prefect's own handler is installed then. A flow that starts beside a sweep leaves Prefect's own where it is,
        and would install it in place of any other.
        """
        with vars(engine).get(PREFECTS_LOCK, contextlib.nullcontext()):
            yield
            if _PREFECTS_OWN is not None:
                setattr(engine, PREFECTS, handler)


_PREFECTS_OWN: Handler = vars(engine).get(PREFECTS)
"""None in a Prefect that keeps none there: then its flows and ours displace each other's, and put them back."""
_SWEEPS = _Sweeps()


@contextmanager
def stopping_gently(stop: Stop) -> Iterator[Stopping]:
    """Within, SIGTERM sets `stop` instead of ending the process; it is handed on when all sweeps have ended.

    Prefect's own handler raises in the middle of whatever runs. Ours lets the sweep come to its end (no new cancel goes
    out, what was accepted is confirmed, all of it is recorded and reported) and then hands the signal on to Prefect's,
    unless the sweep is `done`. Signals can only be handled in the main thread; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Stopping(stop)
        return
    loop = asyncio.get_running_loop()
    logger = get_run_logger()

    def say() -> None:
        # Logging takes locks that the interrupted code may hold: do it from the loop.
        loop.call_soon_threadsafe(
            logger.warning, "Stopping: no further cancel is sent, what is in progress is finished"
        )

    next_look: asyncio.TimerHandle

    def look() -> None:
        nonlocal next_look
        _SWEEPS.install()
        next_look = loop.call_later(LOOK_EVERY, look)

    stopping = Stopping(stop, say)
    _SWEEPS.add(stopping)
    look()
    try:
        yield stopping
    finally:
        next_look.cancel()
        _SWEEPS.remove(stopping)
