"""Finish what earlier sweeps left pending: read each run again, and record how it ended."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prefect_extend_ai.runs import loop_time
from prefect_extend_ai.sweep.chains import PendingResubmission
from prefect_extend_ai.sweep.journal import CancelIntent, Journal, Recorded
from prefect_extend_ai.sweep.plans import PlansLeft, ResubmitPlan
from prefect_extend_ai.sweep.recorder import Recorder, Shelf
from prefect_extend_ai.sweep.recovery.open_intents import OpenIntents
from prefect_extend_ai.sweep.recovery.open_runs import CHUNK, OpenRuns
from prefect_extend_ai.sweep.recovery.pending import at_sweep
from prefect_extend_ai.sweep.recovery.recovered import (
    known_of,
    open_elsewhere,
    plans_to_keep,
    recorded_before,
    unrecorded,
)
from prefect_extend_ai.sweep.recovery.unfinished import Unfinished, of_ended
from prefect_extend_ai.sweep.report import Cancellation, OpenElsewhere, PendingCancel
from prefect_extend_ai.sweep.resubmission.submitting import Resubmitter
from prefect_extend_ai.sweep.result import Result

__all__ = ["FIRST_RUNS", "Recovery"]

logger = logging.getLogger(__name__)

FIRST_RUNS = 200
"""Open runs that are read before the scan, the newest first; the others are read after the sweep."""

RECORD_TOGETHER = 50
"""Runs that share a record, where an intent left more than this many to be recorded."""


@dataclass(slots=True)
class Recovery:
    """What one sweep does about the intents that earlier ones left open.

    Attributes:
        runs: reads what is open.
        recorder: writes records and intents.
        resubmitter: submits documents again.
        pending: what is known of every run that is still open, as this sweep found it.
        ended: open runs that had ended, and are recorded: how, and where.
        elsewhere: intents that this account cannot read.
        left: the intents that stay open, as this sweep narrows them.
    """

    runs: OpenRuns
    recorder: Recorder
    resubmitter: Resubmitter
    pending: dict[str, PendingCancel] = field(default_factory=dict)
    ended: dict[str, Cancellation] = field(default_factory=dict)
    elsewhere: list[CancelIntent] = field(default_factory=list)
    _later: list[CancelIntent] = field(default_factory=list)
    _where: dict[str, Recorded] = field(default_factory=dict)
    left: OpenIntents = field(init=False)
    _unfinished: Unfinished = field(init=False)

    def __post_init__(self) -> None:
        self.left = OpenIntents(self.recorder, self.pending)
        self._unfinished = Unfinished(self.runs, self.resubmitter)

    @property
    def journal(self) -> Journal:
        """Where intents and records are kept."""
        return self.recorder.journal

    async def begin(self, own_runs: set[str] | None = None) -> list[Cancellation]:
        """Read the newest open runs, and record what has ended of them.

        Args:
            own_runs: only these runs, and only what an earlier attempt of this very flow or task run left. Of other
                sweeps' intents, those that plan to submit one of them again are taken over with its cancel.

        Raises RecordError when Prefect cannot be asked, and the account's errors (wrong key, no credits).
        """
        earlier = await self.journal.recorded_earlier()
        self.ended = {run_id: recorded_before(run_id, where) for run_id, where in earlier.items()}
        first: list[CancelIntent] = []
        found_open = await self._open_intents(own_runs)
        # The newest intent keeps a run that several name and none has recorded, so that it is recorded once.
        claimed = await self._recorded_of_several(found_open)
        plans = plans_to_keep(found_open, claimed)
        for found in reversed(found_open):
            once = [run_id for run_id in found.run_ids if run_id not in claimed]
            kept = self._unfinished.plans_of(found, plans[found.id], self._where)
            is_same = len(once) == len(found.run_ids) and kept == found.resubmit
            intent = found if is_same else await self.left.keep(found, once, PlansLeft(kept))
            size = sum(len(each.run_ids) for each in first) + len(once)
            if intent.is_open and (not first or not once or size <= FIRST_RUNS):
                first.append(intent)
            elif intent.is_open:
                self._later.append(intent)
            claimed.update(once)
        for intent in self._later:
            self.runs.unread.update(intent.run_ids)
            self.pending |= {run_id: known_of(intent, run_id) for run_id in intent.run_ids}
            self._unfinished.note_known(of_ended(intent))
        return [each for intent in first for each in await self._recover(intent)]

    async def _recorded_of_several(self, intents: Sequence[CancelIntent]) -> set[str]:
        """Runs that more than one intent names, and that one of them has recorded."""
        named = Counter(run_id for intent in intents for run_id in set(intent.run_ids))
        several = {run_id for run_id, count in named.items() if count > 1}
        done: set[str] = set()
        for intent in intents:
            if several.intersection(intent.run_ids):
                found = await self.journal.recorded(intent)
                self._remember({run_id: found[run_id] for run_id in several & found.keys()})
                done |= several & found.keys()
        return done

    def _remember(self, recorded: Mapping[str, Recorded]) -> None:
        self._where |= recorded
        self.ended |= {run_id: recorded_before(run_id, where) for run_id, where in recorded.items()}

    async def _open_intents(self, own_runs: set[str] | None) -> list[CancelIntent]:
        found = await self.journal.pending()
        if own_runs is None:
            return found
        named = [each for each in found if own_runs & {*each.run_ids}]
        ours = [each for each in named if self.journal.is_second_attempt and self.journal.owns(each)]
        for each in named:
            # Not read: but what another sweep plans for one of these runs is taken over with its cancel.
            is_planned = bool(own_runs & {*each.run_ids} & each.resubmit.keys())
            if is_planned and each not in ours and each.scope == self.journal.scope:
                self.left.add(each)
        return ours

    @property
    def has_more(self) -> bool:
        """Whether `begin` has left something for `go_on`."""
        return bool(self._later)

    async def go_on(self, seconds: float) -> list[Cancellation]:
        """Read the open runs that `begin` left, the longest unread first, for this many seconds.

        Raises what `begin` raises.
        """
        deadline = loop_time() + seconds
        found: list[Cancellation] = []
        for intent in sorted(self._later, key=lambda each: each.looked_at or each.opened_at):
            if loop_time() >= deadline or self.runs.stop.reason is not None:
                break
            self.runs.unread.difference_update(intent.run_ids)
            found += await self._recover(intent, tell_when=True)
        return found

    def open_elsewhere(self) -> OpenElsewhere | None:
        """What is open of accounts that this one cannot read; None where nothing is."""
        return open_elsewhere(self.elsewhere)

    async def _recover(self, intent: CancelIntent, *, tell_when: bool = False) -> list[Cancellation]:
        found = await self.journal.recorded(intent) if intent.run_ids else {}
        recorded = {run_id: found[run_id] for run_id in intent.run_ids if run_id in found}
        self._remember(recorded)
        missing = [run_id for run_id in intent.run_ids if run_id not in recorded]
        plans = self._unfinished.plans_of(intent, intent.resubmit, self._where)
        asked = missing or list(plans)
        if asked and intent.scope != self.journal.scope and not await self.runs.are_ours(asked):
            self.elsewhere.append(intent)
            return []
        recovered: list[Cancellation] = []
        open_: list[str] = []
        left = intent
        while missing and self.runs.stop.reason is None:
            ended, pending, missing = await self.runs.read_chunk(intent, missing)
            self.pending |= pending
            open_ += pending
            if ended:
                done, left = await self._record(intent, ended, [*open_, *missing], plans)
                recovered += done
        self.runs.raise_account_error()
        for run_id in missing:
            self.pending[run_id] = at_sweep(known_of(intent, run_id), self.runs.now(), None, alarm=False)
        self.runs.unread.update(missing)
        open_ += missing
        stay = {*open_, *recorded, *(intent.resubmit.keys() - {*intent.run_ids})}
        plans = {run_id: plan for run_id, plan in plans.items() if run_id in stay}
        if set(open_) != set(left.run_ids) or plans != left.resubmit:
            left = await self.left.keep(intent, open_, PlansLeft(plans))
        elif left.is_open:
            self.left.add(left)
            if tell_when:
                left = await self.left.keep(intent, open_, PlansLeft(plans), looked_at=self.runs.now())
        self._unfinished.note_known(of_ended(left))
        return recovered

    async def _record(
        self, intent: CancelIntent, ended: Sequence[Result], others: Iterable[str], plans: Mapping[str, ResubmitPlan]
    ) -> tuple[list[Cancellation], CancelIntent]:
        """Record ended runs under an intent of this sweep's own, so that no other at the same time does so too."""
        run_ids = [each.cancellation.run_id for each in ended]
        own = await self.journal.log(run_ids, {run_id: plans[run_id] for run_id in run_ids if run_id in plans})
        contested = await self.journal.contested(own) | await self.journal.recorded_elsewhere(own)
        others_plans = {run_id: plan for run_id, plan in plans.items() if run_id not in own.resubmit}
        left = await self.left.keep(intent, others, PlansLeft(others_plans))
        ended = [await self._unfinished.decide(intent, each, own.resubmit) for each in ended]
        shelf = Shelf(self.recorder, own, 1 if len(intent.run_ids) <= CHUNK else RECORD_TOGETHER)
        for each in ended:
            if each.cancellation.run_id not in contested:
                await shelf.put(each)
        await shelf.flush()
        done = [
            each.recorded_in(shelf.records[run_id])
            for each in ended
            if (run_id := each.cancellation.run_id) in shelf.records
        ]
        self.ended |= {each.run_id: each for each in done}
        left_out = {
            each.cancellation.run_id: unrecorded(intent, each.cancellation)
            for each in ended
            if each.cancellation.run_id in self.recorder.unrecorded
        }
        for run_id, pending in left_out.items():
            if known_of(intent, run_id).outcome is not None:
                self.pending[run_id] = at_sweep(pending, self.runs.now(), pending.status, alarm=self.runs.raises_alarms)
        # Another sweep that records a run need not know whose cancel it was: the plan stays; the claim lets one submit.
        recorded = {*run_ids} - left_out.keys()
        own_plans = self._unfinished.plans_left(own, ended, recorded, left_out)
        await self.recorder.complete(own, left_out, shelf.records, own_plans)
        narrowed = own.narrowed(left_out, shelf.records, plans=own_plans)
        if narrowed.is_open:
            self.left.add(narrowed)
        return done, left

    async def resubmit(self) -> None:
        """Submit what earlier sweeps were to submit again, and look for what they may have.

        Raises RecordError when Prefect cannot be written to.
        """
        for left in self.left:
            if of_ended(left) and self.runs.stop.reason is None:
                await self._unfinished.finish(left, self.recorder, self.left.keep)

    @property
    def resubmissions(self) -> list[PendingResubmission]:
        """Documents of earlier sweeps' runs that were to be submitted again, and what is known of each."""
        return sorted(self._unfinished.known.values(), key=lambda each: (each.since, each.run_id))
