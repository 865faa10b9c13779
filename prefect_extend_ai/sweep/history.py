"""What a sweep knows from the sweeps before it: how they went, and which runs a check found held. All of it is pure.

It travels from report to report, in the metadata of the artifact. So one read of the latest report tells all of it,
and it never grows: it keeps the last `SWEEPS` sweeps, and `HOLDS` runs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_extend_ai.sweep.recovery.pending import ALARMS
from prefect_extend_ai.sweep.report import Outcome, SweepReport
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.rules.staleness import Exempt, held_words
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.selectors import Selection

__all__ = ["HOLDS", "HOLDS_META", "HOLD_LASTS", "SWEEPS", "SWEEPS_META", "History", "Hold", "PastSweep"]

SWEEPS = 30
"""How many sweeps the report shows as bars."""

HOLDS = 500
"""Most held runs that are remembered: as many as a sweep cancels by default."""

HOLD_LASTS = timedelta(hours=1)
"""After so long a remembered hold is checked again: somebody may have removed it, and no listing tells."""

HOLD_KEPT = timedelta(days=1)
"""After so long it is forgotten, where no sweep has checked it again."""

STOPPED = 2
"""How a stopped sweep is written, where one that ended Failed otherwise is 1."""

SWEEPS_META = "extend_sweeps"
HOLDS_META = "extend_holds"
"""Metadata of a report: the last sweeps, and the held runs that no listing shows as held."""


@dataclass(frozen=True, slots=True)
class PastSweep:
    """One sweep as a bar: how many runs were stale, how many of them were cancelled, and how many need a person.

    `alarm`: it ended Failed. `stopped`: because a guard refused it, or an error stopped it.
    """

    at: datetime
    stale: int = 0
    cancelled: int = 0
    failed: int = 0
    alarm: bool = False
    stopped: bool = False

    @classmethod
    def of(cls, report: SweepReport, now: datetime) -> PastSweep:
        """The bar of a sweep that ends now."""
        failed = sum(report.counts[outcome] for outcome in Outcome if outcome.needs_attention)
        return cls(
            at=now.replace(microsecond=0),
            stale=report.selected,
            cancelled=report.counts[Outcome.CANCELLED],
            failed=failed,
            alarm=report.needs_attention,
            stopped=report.refusal is not None or report.trouble is not None,
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A run that a check found held: its last change, by the listing, and when the check was."""

    changed_at: int
    seen_at: int


@dataclass(frozen=True, slots=True)
class History:
    """The last sweeps, oldest first, and the runs that are known to be held."""

    sweeps: Sequence[PastSweep] = ()
    holds: Mapping[str, Hold] = field(default_factory=dict)

    @classmethod
    def load(cls, metadata: Mapping[str, Any] | None) -> History:
        """What a report's metadata say; what cannot be read is left out."""
        metadata = metadata or {}
        return cls(
            [
                PastSweep(datetime.fromtimestamp(at, UTC), stale, cancelled, failed, bool(alarm), alarm == STOPPED)
                for at, stale, cancelled, failed, alarm in _rows(metadata.get(SWEEPS_META), 5)
            ][-SWEEPS:],
            {run_id: Hold(changed, seen) for run_id, changed, seen in _rows(metadata.get(HOLDS_META), 3, ids=1)},
        )

    def dump(self) -> dict[str, str]:
        """The same as metadata."""
        sweeps = [
            [_seconds(s.at), s.stale, s.cancelled, s.failed, STOPPED if s.stopped else int(s.alarm)]
            for s in self.sweeps
        ]
        holds = [[run_id, hold.changed_at, hold.seen_at] for run_id, hold in self.holds.items()]
        found = {SWEEPS_META: sweeps, HOLDS_META: holds}
        return {name: json.dumps(rows, separators=(",", ":")) for name, rows in found.items() if rows}

    def with_sweep(self, report: SweepReport, now: datetime) -> History:
        """The same after one more sweep."""
        return replace(self, sweeps=[*self.sweeps, PastSweep.of(report, now)][-SWEEPS:])

    def is_news(self, report: SweepReport, now: datetime) -> bool:
        """Whether a sweep that ends now needs a person for something that no sweep before it has reported.

        An outage, or a wrong key, stops one sweep after another: that is news at first, and again once it has lasted as
        long as a pending run has to for another alarm.
        """
        if not PastSweep.of(report, now).stopped:
            return report.needs_attention
        streak = list(itertools.takewhile(lambda each: each.stopped, reversed(self.sweeps)))
        if not streak:
            return True
        since, before = streak[-1].at, streak[0].at
        return any(before - since < lasting <= now - since for lasting in ALARMS)

    def leave_out(self, selection: Selection) -> Selection:
        """The selection without the runs that were found held within the last hour and have not changed since."""
        now = selection.facts.get("looked_at")
        if now is None or not self.holds:
            return selection
        held = {target.run_id for target in selection.targets if self._is_held(target, now)}
        exempt = dict(selection.facts.get("exempt", {}))
        if held:
            exempt[Exempt.HELD.value] = exempt.get(Exempt.HELD.value, 0) + len(held)
        targets = [target for target in selection.targets if target.run_id not in held]
        return Selection(targets, {**selection.facts, "exempt": exempt})

    def note_holds(
        self, report: SweepReport, targets: Sequence[Target], policy: StalePolicy
    ) -> tuple[SweepReport, History]:
        """The report in which a run that is still held counts as exempt, and the history with every hold known now.

        Args:
            report: the report of a sweep of a kind whose listing shows no metadata.
            targets: the runs that the listing showed as stale.
            policy: the policy of the sweep.
        """
        now = report.looked_at
        if now is None:
            return report, self
        listed = {target.run_id: target for target in targets}
        found = {each.run_id for each in report.cancellations if each.reason == held_words(policy)}
        # A hold that was known and is checked again is nothing new.
        known = found & self.holds.keys()
        rest = [each for each in report.cancellations if each.run_id not in known]
        exempt = dict(report.exempt)
        if known:
            exempt[Exempt.HELD.value] = exempt.get(Exempt.HELD.value, 0) + len(known)
        asked = {each.run_id for each in report.cancellations if each.outcome is not Outcome.DEFERRED}
        recent = _seconds(now - HOLD_KEPT)
        kept = {run_id: hold for run_id, hold in self.holds.items() if run_id not in asked and hold.seen_at > recent}
        new = {
            run_id: Hold(_seconds(changed), _seconds(now))
            for run_id in found
            if run_id in listed and (changed := listed[run_id].updated_at) is not None
        }
        holds = dict(sorted((kept | new).items(), key=lambda item: -item[1].seen_at)[:HOLDS])
        return report.model_copy(update={"exempt": exempt}).with_cancellations(rest), replace(self, holds=holds)

    def _is_held(self, target: Target, now: datetime) -> bool:
        hold = self.holds.get(target.run_id)
        if hold is None or target.updated_at is None:
            return False
        age = now - datetime.fromtimestamp(hold.seen_at, UTC)
        return hold.changed_at == _seconds(target.updated_at) and timedelta() <= age < HOLD_LASTS


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _rows(text: object, width: int, ids: int = 0) -> list[list[Any]]:
    """Rows of this many values, the first `ids` of them text and the others whole numbers; those that are not are left
    out.
    """
    try:
        rows = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return []
    return [
        row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, list)
        and len(row) == width
        and all(isinstance(value, str) for value in row[:ids])
        and all(isinstance(value, int) and 0 <= value < 2**33 for value in row[ids:])
    ]
