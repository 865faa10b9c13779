"""The Extend look-alike in a separate process, so that it takes no time of whoever is measured.

`python -m bench.api` takes what is to be served as JSON in its argument, prints its address, serves until its stdin
ends, and then prints what it was asked.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from prefect_extend_ai.runs import PROCESSED
from prefect_extend_ai.sandbox import World, serve

__all__ = ["Api", "Asked", "Population", "api"]


@dataclass(frozen=True, slots=True)
class Population:
    """What there is to sweep.

    Attributes:
        stale: runs in progress for longer than the limit of an hour.
        healthy: runs in progress for a minute.
        rate: requests a second that are granted for each category; None for any number.
    """

    stale: int
    healthy: int = 0
    rate: float | None = None

    def world(self) -> World:
        """A world of it, in which something has finished of late: nobody takes it for an outage."""
        world = World(requests_per_second=self.rate)
        world.add(status=PROCESSED, age_minutes=1)
        for place in range(self.healthy):
            world.add(age_minutes=1 + place / 1e6)
        for place in range(self.stale):
            world.add(age_minutes=90 + place / 1e3)
        return world


@dataclass(frozen=True, slots=True)
class Asked:
    """What the API was asked.

    Attributes:
        requests: how many requests it saw.
        throttled: how many of them it answered with 429.
        cancelled: how many stale runs were cancelled.
        repeated: cancels that were accepted for a run beyond its first.
    """

    requests: int
    throttled: int
    cancelled: int
    repeated: int


class Api:
    """The running look-alike, as seen from outside. `asked` ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self._line()

    def asked(self) -> Asked:
        """What it was asked; afterwards it is gone."""
        if self._process.stdin:
            self._process.stdin.close()
        return Asked(**json.loads(self._line()))

    def _line(self) -> str:
        return self._process.stdout.readline().strip() if self._process.stdout else ""


@contextlib.contextmanager
def api(population: Population) -> Iterator[Api]:
    """Serve a population for as long as the block runs."""
    command = [sys.executable, "-m", "bench.api", json.dumps(asdict(population))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Api(process)
        finally:
            process.kill()


def main() -> None:
    """Serve until stdin ends, then tell."""
    world = Population(**json.loads(sys.argv[1])).world()
    with serve(world) as served:
        _say(served.url)
        sys.stdin.read()
    cancels = Counter(world.cancels(run_id) for run_id in world.runs)
    asked = Asked(
        requests=len(world.journal),
        throttled=sum(entry.status == 429 for entry in world.journal),
        cancelled=sum(count for cancels, count in cancels.items() if cancels),
        repeated=sum((cancels - 1) * count for cancels, count in cancels.items() if cancels),
    )
    _say(json.dumps(asdict(asked)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
