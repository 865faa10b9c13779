"""`prefect server start` without its freezes: the process that `local_prefect` runs.

On SQLite a Prefect server can stand still for a minute. A request that failed leaves a database cursor in
cyclic garbage; when Python collects it in the server's event loop, SQLite makes the loop wait until the
connection of that cursor is free; that connection waits for its turn to write; and the writer needs
the loop to finish. Only SQLite's time-out, 60 seconds, ends this. Collected in a separate thread, garbage can
wait for a connection without blocking the loop.
"""

from __future__ import annotations

import gc
import itertools
import runpy
import sys
import threading
import time

__all__ = ["main"]

YOUNG, ALL = 1, 2
FULL_EVERY = 30
"""Seconds between full collections, each of which stops the server for a fifth of a second."""


def _collect() -> None:
    for second in itertools.count(1):
        time.sleep(1)
        gc.collect(YOUNG if second % FULL_EVERY else ALL)


def main() -> None:
    """Run `prefect server start` with this process's options, and collect garbage in a thread."""
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
