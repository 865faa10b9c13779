"""A sweep in a separate process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SWEEP = Path(__file__).with_name("sweep_process.py")


class Sweeping:
    """A sweep in a separate process."""

    def __init__(self, command, environment, output):
        self.output = output
        with output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SWEEP), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self):
        return self.output.read_text(errors="replace")

    def wait(self, seconds=300):
        return self.process.wait(seconds)

    def wait_until(self, what, there, seconds=300):
        deadline = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, f"ended before {what}: {self.said}"
            assert time.monotonic() < deadline, f"no {what} in time: {self.said}"
            time.sleep(0.05)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
