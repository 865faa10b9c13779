"""`python -m bench`: measure, and print one table."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from bench.api import api
from bench.contenders import Job, measure
from bench.prefect_writes import count_before, written_since
from bench.results import Result, Round, show, write
from bench.scenarios import SCENARIOS, Scenario
from prefect_extend_ai.cli.local_prefect import LocalPrefect, run_local_prefect

app = App(help="Benchmarks.", version_flags=[])
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@app.default
def main(
    *,
    only: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    rounds: int = 3,
    quick: Annotated[bool, Parameter(negative="")] = False,
    write_page: Annotated[bool, Parameter(name="--write", negative="")] = False,
) -> None:
    """Measure the sweep and its peers against a look-alike of Extend and a real Prefect server, on this machine.

    Args:
        only: Names of scenarios, for some of them.
        rounds: How often each is measured. Scenarios take turns, so that a busy moment does not hit only one.
        quick: One round, and without the two that take minutes.
        write_page: Write docs/benchmarks.md too.

    Raises:
        SystemExit: An unknown scenario, or a promise that was not kept.
    """
    console = Console(width=None if sys.stdout.isatty() else 180)
    unknown = set(only) - {scenario.name for scenario in SCENARIOS}
    if unknown:
        names = ", ".join(repr(scenario.name) for scenario in SCENARIOS)
        raise SystemExit(f"No such scenario: {', '.join(unknown)}. There are {names}.")
    chosen = [scenario for scenario in SCENARIOS if not only or scenario.name in only]
    results = {scenario.name: Result(scenario) for scenario in chosen if not (quick and scenario.heavy)}
    with (
        tempfile.TemporaryDirectory(prefix="prefect-extend-ai-bench-") as home,
        run_local_prefect(Path(home)) as server,
    ):
        os.environ |= server.settings | {"PREFECT_LOGGING_LEVEL": "ERROR"}
        rounds = 1 if quick else rounds
        for number in range(rounds):
            seconds: dict[str, float] = {}
            for result in results.values():
                if result.scenario.heavy and number < rounds - 1:
                    continue  # last, because the server is busy with their events for a while
                console.print(f"round {number + 1}: {result.scenario.name} ...", highlight=False)
                result.rounds.append(_once(result.scenario, server, seconds))
                seconds[result.scenario.name] = result.rounds[-1].took.seconds
    show(results.values(), console)
    if write_page:
        write(results.values(), PAGE)
    if any(result.verdict.startswith("✗") for result in results.values()):
        raise SystemExit(1)


def _once(scenario: Scenario, server: LocalPrefect, seconds: dict[str, float]) -> Round:
    mark = count_before(server.home)
    with api(scenario.population) as running:
        took = measure(scenario.contender, Job(running.url, scenario.population.rate))
        asked = running.asked()
    ideal = scenario.ideal(scenario, seconds) if scenario.ideal else None
    rival = seconds.get(scenario.no_slower_than or "")
    return Round(took, asked, written_since(server.home, mark), ideal, rival)


if __name__ == "__main__":
    app()
