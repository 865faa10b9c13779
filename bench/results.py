"""What came out, as a table for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.api import Asked
from bench.contenders import Took
from bench.prefect_writes import Written
from bench.scenarios import Scenario

__all__ = ["Result", "Round", "page", "show", "write"]

HEAD = (
    "scenario",
    "runs",
    "seconds",
    "ideal",
    "ratio",
    "throttled",
    "requests",
    "CPU s",
    "peak MB",
    "artifacts",
    "promise",
)


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement."""

    took: Took
    asked: Asked
    written: Written
    ideal: float | None
    rival: float | None = None
    """Seconds that the one took that it is promised to be no slower than."""

    @property
    def ratio(self) -> float | None:
        """Seconds against the ideal ones."""
        return self.took.seconds / self.ideal if self.ideal else None

    @property
    def throttled(self) -> float:
        """The share of requests that was answered with 429."""
        return self.asked.throttled / self.asked.requests if self.asked.requests else 0.0


@dataclass(slots=True)
class Result:
    """All rounds of a scenario; its numbers are their medians."""

    scenario: Scenario
    rounds: list[Round] = field(default_factory=list)

    @property
    def row(self) -> Sequence[str]:
        """Its line of the table."""
        ideals = [each.ideal for each in self.rounds if each.ideal is not None]
        ratios = [each.ratio for each in self.rounds if each.ratio is not None]
        return (
            self.scenario.name,
            f"{self.scenario.runs:,}",
            _spread([each.took.seconds for each in self.rounds]),
            f"{median(ideals):.2f}" if ideals else "",
            _spread(ratios),
            f"{median(each.throttled for each in self.rounds):.1%}",
            f"{median(each.asked.requests for each in self.rounds):,.0f}",
            f"{median(each.took.cpu_seconds for each in self.rounds):.1f}",
            f"{max(each.took.peak_mb for each in self.rounds):,.0f}",
            f"{max(each.written.artifacts for each in self.rounds)}",
            self.verdict,
        )

    @property
    def verdict(self) -> str:
        """Which promises were kept, by the medians; empty where nothing is promised."""
        scenario, rounds = self.scenario, self.rounds
        ratios = [each.ratio for each in rounds if each.ratio is not None]
        against = [each.took.seconds / each.rival for each in rounds if each.rival]
        written = [each.written for each in rounds]
        largest = max((max(each.largest_artifact, each.largest_event) for each in written), default=0)
        promises = [
            ("ratio ≤", scenario.most, median(ratios) if ratios else None),
            (f"times {scenario.no_slower_than} ≤", 1 if against else None, median(against) if against else None),
            ("throttled ≤", scenario.most_throttled, median(each.throttled for each in rounds)),
            ("requests ≤", scenario.most_requests, median(each.asked.requests for each in rounds)),
            ("MB ≤", scenario.most_mb, max(each.took.peak_mb for each in rounds)),
            ("artifacts ≤", scenario.most_artifacts, max(each.artifacts for each in written)),
            ("bytes at once ≤", 1_500_000 if scenario.most_artifacts else None, largest),
            ("cancelled twice ≤", 0 if scenario.is_ours else None, sum(r.asked.repeated for r in rounds)),
            ("left over ≤", 0 if scenario.runs else None, sum(scenario.runs - r.asked.cancelled for r in rounds)),
        ]
        checked = [(words, most, found) for words, most, found in promises if most is not None and found is not None]
        broken = [f"{words} {most:g}: {found:,.2f}" for words, most, found in checked if found > most]
        return f"✗ {'; '.join(broken)}" if broken else "✓" if scenario.is_ours else ""


def show(results: Iterable[Result], console: Console) -> None:
    """Print the table."""
    table = Table(*HEAD, title=f"\n{_when_and_where()}", title_justify="left")
    for result in results:
        table.add_row(*result.row)
    console.print(table)


def page(results: Iterable[Result]) -> str:
    """The same as a markdown page."""
    lines = [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *(result.row for result in results))]
    return "\n".join([PREFACE, f"{_when_and_where()}.", "", *lines, "", LEGEND])


IDLE = "## Idle sweeps\n"
"""The title under which `python -m bench.idle` is quoted."""

PREFACE = """\
# Benchmarks

Written by `make bench ARGS=--write`. The limit of a sweep should be Extend's rate limit, and not this package; these
are the measurements, with other ways to do the same measured in the same rounds.
"""

LEGEND = """\
- A line is the median of its rounds, with the lowest and the highest in brackets. Each runs in a fresh
  process; its start and imports do not count. The look-alike of Extend and the Prefect server (SQLite) run in
  separate processes on the same machine.
- *N/s*: the look-alike allows N reads and N cancels a second, and there are stale runs for 15 seconds. The
  ideal is runs / rate. The whole flow is measured: recover, list, check, cancel, confirm, record,
  report. *warm*: in a process that has swept once before.
- *no limit* and its peers: the ideal is *bare httpx*, a loop of the same GET and POST with the same concurrency,
  without records. *SDK* is the same loop with the vendor's SDK,
  *naive flow* a Prefect flow with a task and a keyed artifact for each run. Where runs differ in number,
  the ideal is scaled.
- *100,000 in progress*: fifty of them are stale, and it needs as many requests as with only these fifty.
- *CPU s* is the processor time of the measured process, the better measure where the machine is
  busy.
- *artifacts* are those that a sweep writes to Prefect: records, completed intents, the report and its table.
"""


def _when_and_where() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores, {memory:.0f} GB, Python {platform.python_version()}"


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    middle = f"{median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f}-{max(values):.2f})"


def write(results: Iterable[Result], path: Path) -> None:
    """Write the page; what it says of idle sweeps is measured apart, and stays."""
    path.parent.mkdir(exist_ok=True)
    _, mark, idle = path.read_text().partition(IDLE) if path.exists() else ("", "", "")
    path.write_text(page(results) + (f"\n{mark}{idle}" if mark else ""))
