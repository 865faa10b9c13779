"""Sweeps in virtual time, each in a separate process, to be held to a promise."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep import StaleRuns, Sweep
from prefect_extend_ai.sweep.stop import Stop
from support.extend import Client, Extend
from support.journals import MemoryJournal, Prefect
from support.processes import Killed, Process


@dataclass
class Drawn:
    """One sweep of a schedule, and what happens to it."""

    die_at: int | None = None
    stop_after: float | None = None
    fails: dict = field(default_factory=dict)
    down_from: int | None = None
    batch: int = 4
    shared: bool = False
    seed: int = 0
    dry_run: bool = False
    resubmit: int = 2


class Schedule(ABC):
    """Lives through sweeps over one Extend and one Prefect; a promise adds `conduct` and what it holds them to."""

    def __init__(self, loop, runs, *, one_machine=True, **behaviour):
        self.loop = loop
        self.extend = Extend(loop, runs, **behaviour)
        self.prefect = self.extend.prefect = Prefect(one_machine=one_machine)
        self.names = 0

    @abstractmethod
    def policy(self, drawn):
        """The policy of a sweep."""

    def options(self, drawn):  # noqa: ARG002
        return {}

    @abstractmethod
    async def conduct(self, engine, process, drawn):
        """What the flow does with a sweep; what comes of it."""

    async def sweep(self, drawn):
        """One sweep, in a separate process; None where it died or could not go on."""
        self.names += 1
        process = Process(f"sweep-{self.names}", drawn.die_at, random.Random(drawn.seed))
        journal = MemoryJournal(self.prefect, process, drawn.fails, drawn.down_from, self.extend.now)
        stop = Stop()
        stop.after(30 * 60, "out of time")
        if drawn.stop_after is not None:
            self.loop.call_later(drawn.stop_after, lambda: (stop.set("SIGTERM"), stop.hurry(10)))
        engine = Sweep(
            Client(self.extend, process),
            journal,
            StaleRuns(RunKind.CLASSIFY, 60, self.policy(drawn)),
            stop,
            **self.options(drawn),
        )
        self.prefect.alive.add(process.name)
        try:
            return await self.conduct(engine, process, drawn)
        except Killed:
            return None
        except RecordError:
            assert drawn.fails or drawn.down_from, "only a journal that fails may keep a sweep from going on"
            return None
        finally:
            process.dead = True
            self.prefect.alive.discard(process.name)
