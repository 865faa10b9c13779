"""What is measured, and what has to come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.api import Population

__all__ = ["SCENARIOS", "Ideal", "Scenario"]

Ideal = Callable[["Scenario", Mapping[str, float]], float | None]
"""The ideal seconds of a scenario, given the seconds that others took in the same round."""

PLANS = (10, 25, 75)
"""Requests a second of Extend's plans (vendor's page on rate limits)."""
PLAN_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table.

    Attributes:
        name: what `--only` knows it by.
        contender: who does it, see `bench.contenders`.
        population: what there is to do.
        ideal: the seconds to compare with; None for a line that is only there to be compared with.
        most: the ratio of seconds to ideal seconds that is promised.
        no_slower_than: the scenario that it is promised to take no longer than, in the same round.
        most_throttled: the share of requests answered with 429 that is promised.
        most_requests: the requests that are promised.
        most_mb: the peak memory that is promised.
        most_artifacts: the artifacts that are promised.
        heavy: left out with `--quick`, and done only once.
    """

    name: str
    contender: str
    population: Population
    ideal: Ideal | None = None
    most: float | None = None
    no_slower_than: str | None = None
    most_throttled: float | None = None
    most_requests: int | None = None
    most_mb: float | None = None
    most_artifacts: int | None = None
    heavy: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether a sweep is measured, and not one of its peers."""
        return self.contender in ("sweep", "warm_sweep")

    @property
    def runs(self) -> int:
        """How many runs are to be cancelled."""
        return self.population.stale


def _at_the_rate(scenario: Scenario, _: Mapping[str, float]) -> float | None:
    return scenario.runs / scenario.population.rate if scenario.population.rate else None


def _as_fast_as(other: str, others_runs: int) -> Ideal:
    def ideal(scenario: Scenario, seconds: Mapping[str, float]) -> float | None:
        return seconds[other] * scenario.runs / others_runs if other in seconds else None

    return ideal


MANY = 1000
_AS_BARE_HTTPX = _as_fast_as("bare httpx", MANY)

SCENARIOS = [
    *(
        Scenario(
            f"{rate}/s{process}",
            contender,
            Population(rate * PLAN_SECONDS, rate=rate),
            ideal=_at_the_rate,
            most=most,
            most_throttled=0.01,
        )
        for process, contender, most in (("", "sweep", 1.1), (", warm", "warm_sweep", 1.08))
        for rate in PLANS
    ),
    Scenario("25/s, SDK", "sdk", Population(25 * PLAN_SECONDS, rate=25), ideal=_at_the_rate),
    Scenario("bare httpx", "bare_httpx", Population(MANY)),
    Scenario("SDK", "sdk", Population(MANY), ideal=_AS_BARE_HTTPX),
    Scenario("no limit", "sweep", Population(MANY), ideal=_AS_BARE_HTTPX, most=1.5, no_slower_than="SDK"),
    Scenario("naive flow", "naive_flow", Population(200), ideal=_AS_BARE_HTTPX),
    Scenario("nothing stale", "sweep", Population(0), most_requests=1),
    Scenario("50 in progress", "sweep", Population(50), most_requests=105),
    Scenario("100,000 in progress", "sweep", Population(50, healthy=100_000), most_requests=105, heavy=True),
    Scenario("50,000 stale", "sweep", Population(50_000), most_mb=400, most_artifacts=500, heavy=True),
]
