"""Runs as an account has them: processors of different speed, a week's submissions, and an outage if one is wanted."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import FAILED, PROCESSED, PROCESSING, RunKind
from prefect_extend_ai.sandbox.dice import dice_of, new_id
from prefect_extend_ai.sandbox.population import Addable, describe_run, processors
from prefect_extend_ai.sandbox.record import Processor

__all__ = ["SPEEDS", "Speed", "live"]

RECOVERY_MINUTES = 30
"""For so long after an outage, at most, the backlog is worked off."""
FAILED_SHARE, REVIEWED_SHARE = 0.02, 0.04


@dataclass(frozen=True, slots=True)
class Speed:
    """How long the runs of one processor take: their durations are log-normal.

    Attributes:
        median_minutes: half of the runs take longer.
        spread: the standard deviation of the logarithm: 0.3 is even, 1 is wild.
        share: how many of the runs are this processor's, against the shares of the others.
    """

    median_minutes: float
    spread: float = 0.5
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Speed:
        """`MEDIAN`, `MEDIAN~SPREAD`, or `MEDIAN~SPREAD~SHARE`. Raises ExtendInputError for anything else."""
        try:
            speed = cls(*(float(part) for part in text.split("~")))
        except (TypeError, ValueError):
            speed = None
        if speed is None or not (0 < speed.median_minutes < math.inf and 0 <= speed.spread < 5 and speed.share > 0):
            raise ExtendInputError(f"{text!r} is not a speed: write MEDIAN, MEDIAN~SPREAD or MEDIAN~SPREAD~SHARE")
        return speed


SPEEDS = (Speed(3, 0.6, 5), Speed(9, 0.5, 3), Speed(32, 0.33, 2))
"""Invoices are quick, and many; some documents are long."""


def live(
    world: Addable,
    kind: RunKind,
    workspace: str,
    *,
    runs: int = 3000,
    days: float = 7,
    speeds: Sequence[Speed] = SPEEDS,
    outage: tuple[float, float] | None = None,
    seed: int = 1,
) -> None:
    """Add runs that were submitted over the last days: most have ended, the rest will.

    Args:
        world: where to add them.
        kind: their kind.
        workspace: the workspace that they live in.
        runs: how many.
        days: over how many days they were submitted, evenly.
        speeds: how fast each processor is, the first processor first.
        outage: from how many minutes ago, to how many, nothing was processed; None for no outage.
        seed: the same seed makes the same runs.

    Raises:
        ExtendInputError: for an outage that ends before it begins, or has not begun.
    """
    if outage is not None and not outage[0] > outage[1] >= 0:
        raise ExtendInputError(f"an outage is from more minutes ago to fewer, not from {outage[0]:g} to {outage[1]:g}")
    rng = dice_of(f"life/{seed}/{kind}")
    desks = list(zip(speeds, _desks(kind, len(speeds), rng), strict=True))
    shares = [speed.share for speed in speeds]
    for _ in range(runs):
        speed, processor = rng.choices(desks, shares)[0]
        facts = describe_run(kind, rng) | {"processor": processor, "workspace": workspace}
        created = rng.uniform(0, days * 24 * 60)
        takes = speed.median_minutes * math.exp(rng.gauss(0, speed.spread))
        _add(functools.partial(world.add, kind, **facts), rng, created, takes, outage)


def _add(
    add: Callable[..., str], rng: random.Random, created: float, takes: float, outage: tuple[float, float] | None
) -> None:
    """Add one run: created this many minutes ago, it takes this long while Extend is up."""
    ended = created - takes
    if outage is not None and ended < outage[0] and created > outage[1]:
        done = max(created - outage[0], 0)
        ended = outage[1] - (takes - done) - rng.uniform(0, RECOVERY_MINUTES)
    status = FAILED if rng.random() < FAILED_SHARE else PROCESSED
    if ended <= 0:
        add(PROCESSING, created_minutes=created, updated_minutes=created, plan=[(-ended * 60, status)])
        return
    more: dict[str, Any] = {"failure_reason": "FAILED_TO_PROCESS_FILE"} if status == FAILED else {}
    if status == PROCESSED and rng.random() < REVIEWED_SHARE:
        # A person looked at it later, and that changed it.
        ended = rng.uniform(0, ended)
        more = {"reviewed": True}
    add(status, created_minutes=created, updated_minutes=ended, **more)


def _desks(kind: RunKind, number: int, rng: random.Random) -> Sequence[Processor | None]:
    known = processors(kind)
    if not known:
        return [None] * number
    prefix = known[0].id.partition("_")[0]
    more = (Processor(new_id(f"{prefix}_", rng), f"Desk {place} {kind.processor}") for place in range(4, number + 1))
    return [*known, *more][:number]
