"""A week of sweeps over three kinds and two workspaces: what the history says, and when somebody is alarmed."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from types import SimpleNamespace

import pytest

from prefect_extend_ai.rendering import name_at_end, name_at_start
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep import StaleRuns, Sweep
from prefect_extend_ai.sweep.history import SWEEPS, History, PastSweep
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.lateness import SweepRun, superseded_by
from prefect_extend_ai.sweep.report import Outcome, SweepReport
from support.extend import Client, Extend
from support.journals import MemoryJournal, Prefect
from support.processes import Killed, Process
from support.virtual_time import VirtualLoop

KINDS = (RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.WORKFLOW)
WORKSPACES = ("ws_acme", "ws_globex")
TICKS = 700
STEP = 7 * 24 * 3600 / TICKS
"""Seconds from one sweep to the next: each pair of workspace and kind is swept every 86 minutes."""

OUTAGE = range(150, 210)
ABSENCE = range(300, 354)
"""No worker is there; what was scheduled meanwhile begins at its end, all at once."""
KILLED = 420
HANGING = 480
RENAMED = 600


class Pair:
    """A workspace and a kind: its Extend, and what Prefect keeps of its sweeps."""

    def __init__(self, runner, workspace, kind):
        self.runner, self.kind = runner, kind
        self.extend = Extend(runner.get_loop())
        self.prefect = self.extend.prefect = Prefect()
        self.scope = Scope(kind=kind, api_url="https://api.extend.ai", workspace_id=workspace)
        self.block = workspace.removeprefix("ws_")
        self.history, self.reports, self.flow_runs, self.truth = History(), [], [], []
        self.names, self.alarms = [], []

    @property
    def world(self):
        return self.extend.world

    def run_id(self):
        return f"{self.kind.id_prefix}{len(self.world.runs)}"

    def add(self, age_minutes=90, **facts):
        run_id = facts.pop("id", None) or self.run_id()
        age = {"created_minutes": max(age_minutes, 120), "updated_minutes": age_minutes}
        self.world.add(self.kind, id=run_id, **age, **facts)
        self.extend.runs[run_id] = self.world.runs[run_id]
        return run_id

    def live(self, dice, *, outage):
        """What has happened since the last sweep: some runs hang, and some are finished."""
        for _ in range(dice.choice([0, 0, 1, 2, 4])):
            self.add(age_minutes=dice.uniform(61, 86))
        if outage:
            for _ in range(10):
                self.add(age_minutes=dice.uniform(61, 86))
        else:
            self.add(age_minutes=1, status="PROCESSED")

    def sweep(self, *, due=None, die_at=None):
        """Sweep as the flow does; the report, None where the process died, a skipped one where it came late."""
        now = self.extend.now()
        number = len(self.flow_runs)
        this = SweepRun(f"{number:04}", due or now, now, by_schedule=True, parameters={"kind": self.kind})
        if superseded_by(this, self.flow_runs) is not None:
            self.flow_runs.append(SweepRun(this.id, this.due, now, True, this.parameters, completed=True, skipped=True))
            return None
        process = Process(f"sweep-{number}", latencies=random.Random(number), die_at=die_at)
        journal = MemoryJournal(self.prefect, process, now=self.extend.now, scope=self.scope)
        sweep = Sweep(
            Client(self.extend, process),
            journal,
            StaleRuns(self.kind, 60),
            raises_alarms=True,
        )
        try:
            report, history = self.runner.run(self._whole(sweep))
        except Killed:
            self.flow_runs.append(SweepRun(this.id, this.due, now, True, this.parameters))
            return None
        if self.history.is_news(report, self.extend.now()):
            self.alarms += ["outage"] if report.refusal else ["run"]
        self.history = History.load(history.dump())
        self.reports.append(report)
        self.names.append(name_at_end(name_at_start(self.block, self.kind), report))
        self.truth.append(PastSweep.of(report, self.extend.now()))
        ended = not report.needs_attention
        self.flow_runs.append(SweepRun(this.id, this.due, now, True, this.parameters, completed=ended))
        return report

    async def _whole(self, sweep):
        recovered = await sweep.recover()
        found = await sweep.select()
        selection = self.history.leave_out(found)
        report = SweepReport(kind=self.kind, limit_minutes=60).model_copy(update=selection.facts)
        parts = sweep.divide(selection.targets)
        if report.refusal is not None:
            done = [target.cancellation(Outcome.DEFERRED, "a guard refused") for target in selection.targets]
        else:
            done = [*(await sweep.cancel_batch(parts.to_ask) if parts.to_ask else []), *parts.deferred]
        recovered += await sweep.recover_more(450)
        await sweep.finish()
        report = report.with_cancellations(done).model_copy(
            update={"pending": sweep.pending, "recovered": recovered, "unrecorded": sweep.unrecorded}
        )
        history = self.history
        if not self.kind.shows_metadata:
            report, history = history.note_holds(report, found.targets, sweep.selector.policy)
        return report, history.with_sweep(report, self.extend.now())


@pytest.fixture(scope="module")
def week():
    """The pairs after a week in which everything went wrong once."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield play(runner)


def play(runner):
    dice = random.Random(13)
    pairs = [Pair(runner, workspace, kind) for workspace in WORKSPACES for kind in KINDS]
    held = {pair.scope.slug: pair.add(metadata={"prefect_hold": True}) for pair in pairs}
    late = []
    for tick in range(TICKS):
        pair = pairs[tick % len(pairs)]
        runner.run(asyncio.sleep(max(tick * STEP - runner.get_loop().time(), 0)))
        pair.live(dice, outage=tick in OUTAGE)
        if tick in ABSENCE:
            late.append((pair, pair.extend.now()))
            continue
        for waiting, due in late:
            # Extend was not away.
            waiting.add(age_minutes=1, status="PROCESSED")
            waiting.sweep(due=due)
        late = []
        if tick // len(pairs) == HANGING // len(pairs) and pair is pairs[0]:
            pair.add(id="clr_hanging")
            pair.extend.runs["clr_hanging"].cancel_mode = "never"
        if tick == RENAMED:
            pair.block = "acme-production"
        pair.sweep(die_at=40 if tick == KILLED else None)
    return SimpleNamespace(pairs=pairs, held=held)


def test_the_history_shows_the_last_thirty_as_they_were(week):
    for pair in week.pairs:
        assert list(pair.history.sweeps) == pair.truth[-SWEEPS:]
        assert all(each.cancelled + each.failed <= each.stale for each in pair.truth)


def test_nothing_that_was_cancelled_is_lost_or_reported_twice(week):
    for pair in week.pairs:
        reports_of = Counter(
            each.run_id for report in pair.reports for each in report.cancellations if each.outcome is Outcome.CANCELLED
        )
        cancelled = {run_id for run_id, run in pair.world.runs.items() if run.status == "CANCELLED"}
        assert set(reports_of) <= cancelled
        assert max(reports_of.values()) == 1
        assert len(cancelled) - len(reports_of) == sum(len(report.recovered) for report in pair.reports)
        assert all(len(pair.prefect.texts(run_id)) == 1 for run_id in cancelled)
        assert pair.extend.violations == []


def test_nine_late_sweeps_of_each_pair_are_one(week):
    for pair in week.pairs:
        assert sum(each.skipped for each in pair.flow_runs) == len(ABSENCE) // len(week.pairs) - 1


def test_each_new_trouble_is_one_alarm(week):
    # The outage: at first, and once it has lasted an hour and six hours. The hanging cancel: these, and after a day.
    by_pair = {pair.scope.slug: Counter(pair.alarms) for pair in week.pairs}
    hanging = by_pair.pop(week.pairs[0].scope.slug)
    assert all(alarms == {"outage": 3} for alarms in by_pair.values()), by_pair
    assert hanging == {"outage": 3, "run": 4}
    refused = sum(report.refusal is not None for pair in week.pairs for report in pair.reports)
    assert refused > 3 * len(week.pairs)


def test_a_held_run_is_exempt_all_week(week):
    for pair in week.pairs:
        assert pair.world.runs[week.held[pair.scope.slug]].status == "PROCESSING"
        spared = sum(report.counts[Outcome.SPARED] for report in pair.reports)
        assert spared == (0 if pair.kind.shows_metadata else 1)
        # A sweep that a guard refuses checks no run, and so no hold that is an hour old.
        unchecked = 0 if pair.kind.shows_metadata else sum(report.refusal is not None for report in pair.reports)
        assert sum(report.exempt.get("held", 0) for report in pair.reports) == len(pair.reports) - spared - unchecked


def test_names_of_flow_runs_tell_the_same(week):
    for pair in week.pairs:
        for name, report in zip(pair.names, pair.reports, strict=True):
            match = re.search(r"cancelled (\d+) of (\d+)", name)
            numbers = (int(match[1]), int(match[2])) if match else (0, 0)
            assert numbers == (report.counts[Outcome.CANCELLED], report.selected)
    renamed = week.pairs[RENAMED % len(week.pairs)]
    assert renamed.names[-1].startswith("acme-production classify")
