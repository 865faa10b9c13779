"""A sweep's process, which may die between any two steps."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field


class Killed(BaseException):
    """The process is gone: nothing of it runs any further."""


@dataclass
class Process:
    """One sweep's process: dies at its n-th step, and counts its steps."""

    name: str
    die_at: int | None = None
    latencies: random.Random = field(default_factory=lambda: random.Random(1))
    steps: int = 0
    dead: bool = False

    async def step(self):
        """A moment in which the process may die, and in which others get their turn."""
        self.steps += 1
        self.dead = self.dead or self.steps == self.die_at
        if self.dead:
            raise Killed(self.name)
        await asyncio.sleep(self.latencies.choice([0, 0.01, 0.3]))
        if self.dead:
            raise Killed(self.name)
