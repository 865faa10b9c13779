"""Stop a sweep gently: cancelling its flow run sends SIGTERM, and what is in hand is still finished and recorded."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from prefect_extend_ai.stop import Stop

__all__ = ["Stopping", "stopping_gently"]

IN_HAND_SECONDS = 10
"""How long accepted cancels may still take after SIGTERM: Prefect's runner kills 30 seconds after it."""


class Stopping:
    """Whether SIGTERM came, and whether it still has to be delivered.

    Attributes:
        received: it came.
        done: the flow run ends as Cancelled by itself, so that nobody has to be told by the signal any more.
    """

    def __init__(self) -> None:
        self.received = False
        self.done = False


@contextmanager
def stopping_gently(stop: Stop) -> Iterator[Stopping]:
    """Within, SIGTERM sets `stop` instead of ending the process; at the end it is delivered unless that is `done`.

    Prefect's own handler raises in the middle of whatever runs. Ours lets the sweep come to its end (no new cancel goes
    out, what was accepted is confirmed, all of it is recorded and reported) and then hands the signal on to Prefect's.
    Signals can only be handled in the main thread; elsewhere this does nothing.
    """
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    loop = asyncio.get_running_loop()
    logger = get_run_logger()

    def stop_gently(*_: object) -> None:
        if over:
            # Flows side by side put back each other's handlers, and so may have put back this one.
            signal.signal(signal.SIGTERM, previous)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        stopping.received = True
        stop.set("the sweep was stopped (SIGTERM)")
        stop.hurry(IN_HAND_SECONDS)
        # Logging takes locks that the interrupted code may hold: do it from the loop.
        loop.call_soon_threadsafe(logger.warning, "Stopping: no further cancel is sent; what is in hand is finished.")

    over = False
    previous = signal.signal(signal.SIGTERM, stop_gently)
    try:
        yield stopping
    finally:
        over = True
        signal.signal(signal.SIGTERM, previous)
        if stopping.received and not stopping.done:
            os.kill(os.getpid(), signal.SIGTERM)
