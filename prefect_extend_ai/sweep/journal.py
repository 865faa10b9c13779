"""What a sweep writes down, so that nothing it cancelled can be lost: a write-ahead log of cancels.

Before the first cancel of a batch its cancel intent is durable: these runs are about to be cancelled. The intent is
completed once the final object of each is recorded. A process that dies in between leaves it pending, and the next
sweep of the same kind finds it, reads each run, and records what has ended.

`Journal` is the protocol; `prefect_extend_ai.prefect_io.journal` keeps it in Prefect's artifacts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.plans import PlansLeft, ResubmitPlan
from prefect_extend_ai.sweep.report import Cancellation, PendingCancel

__all__ = ["CancelIntent", "Journal", "Recorded", "Scope"]

LONGEST_UNKNOWN = timedelta(minutes=45)
"""How long a sweep may last whose intent does not say until when."""


class Scope(BaseModel):
    """Where a sweep looks for runs, as its settings spell it. Several spellings may name one account."""

    model_config = ConfigDict(frozen=True)

    kind: RunKind
    api_url: str
    workspace_id: str | None = None

    @property
    def slug(self) -> str:
        """The scope as part of an artifact's key: the kind, and the workspace where one is named.

        Keys are lower case, and ids may differ by case alone, hence the hash.
        """
        if self.workspace_id is None:
            return self.kind.value
        readable = re.sub(r"[^a-z0-9]+", "-", self.workspace_id.lower()).strip("-")[:40]
        return f"{self.kind}-{readable}-{hashlib.sha256(self.workspace_id.encode()).hexdigest()[:6]}"


class CancelIntent(BaseModel):
    """Runs that are about to be cancelled, or were and have not ended: ids and facts, nothing of what the runs hold.

    Attributes:
        run_ids: the runs that are still open.
        recorded: the others, of those whose final object is recorded.
        resubmit: the plan for each of its runs whose document may have to be submitted again. It outlives the run's
            cancel and record, until the new run is created, or given up.
        resubmitted: the run that replaces each of those that were submitted again.
        not_resubmitted: why others were not, where that was decided after their record.
        sent_in_vain: those of them whose create was sent, and refused by Extend: no other sweep sends one.
        known: how the sweep that ended left each of them; a run that is missing here was open when a process died.
        opened_at: when it was logged, by the clock of the machine that logged it.
        looked_at: when a later sweep last read its runs without changing the intent otherwise.
        until: when the sweep that logged it has ended, whatever happened to it; None in older entries.
        host: the machine that logged it.
        rule: what selected the runs, in words.
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    scope: Scope
    run_ids: list[str]
    recorded: list[str] = Field(default=[])
    known: dict[str, PendingCancel] = Field(default={})
    resubmit: dict[str, ResubmitPlan] = Field(default={})
    resubmitted: dict[str, str] = Field(default={})
    not_resubmitted: dict[str, str] = Field(default={})
    sent_in_vain: list[str] = Field(default=[])
    opened_at: datetime
    looked_at: datetime | None = None
    until: datetime | None = None
    host: str | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    rule: str = ""

    def lasts_until(self) -> datetime:
        """When the sweep that logged it is over for certain."""
        return self.until or self.opened_at + LONGEST_UNKNOWN

    @property
    def is_open(self) -> bool:
        """Whether anything of it is left to be done."""
        return bool(self.run_ids or self.resubmit)

    def narrowed(
        self,
        still_open: Mapping[str, PendingCancel | None],
        recorded: Collection[str] = (),
        looked_at: datetime | None = None,
        plans: PlansLeft | None = None,
    ) -> CancelIntent:
        """The same intent for these runs only, with what is known of each; its sweep no longer works on them.

        Args:
            still_open: the runs.
            recorded: runs whose final object was recorded.
            looked_at: when these runs were read.
            plans: what is left of the plans; by default all but those of runs that leave the intent.
        """
        if plans is None:
            gone = {*self.run_ids} - {*still_open}
            plans = PlansLeft({run_id: plan for run_id, plan in self.resubmit.items() if run_id not in gone})
        changed = {
            "resubmit": dict(plans.left),
            "resubmitted": self.resubmitted | dict(plans.new_runs),
            "not_resubmitted": self.not_resubmitted | dict(plans.refused),
            "sent_in_vain": list(dict.fromkeys([*self.sent_in_vain, *plans.sent_in_vain])),
            "run_ids": list(still_open),
            "known": {run_id: pending for run_id, pending in still_open.items() if pending is not None},
            "recorded": list(dict.fromkeys([*self.recorded, *recorded])),
            "looked_at": looked_at,
            "until": self.opened_at,
        }
        return self.model_copy(update=changed)


class Recorded(BaseModel):
    """Where and when a final object is recorded, and how the run had ended; None in records of older versions.

    `resubmission` is what the record says of submitting the document again, where that was decided already.
    """

    model_config = ConfigDict(frozen=True)

    artifact_id: UUID
    recorded_at: datetime | None = None
    outcome: str | None = None
    resubmission: str | None = None


class Journal(Protocol):
    """Where the cancel intents and records of one scope are kept.

    Every method raises RecordError when it could not do its work.
    """

    scope: Scope

    @property
    def is_second_attempt(self) -> bool:
        """Whether the flow run or task run of this journal was started before (Prefect's `retries`)."""

    def owns(self, intent: CancelIntent) -> bool:
        """Whether an attempt of this very flow run or task run logged the intent."""

    async def recorded_earlier(self) -> dict[str, Recorded]:
        """Which runs an earlier attempt of this very flow run or task run has recorded."""

    async def log(self, run_ids: Sequence[str], resubmit: Mapping[str, ResubmitPlan] | None = None) -> CancelIntent:
        """Write ahead; when this returns, the intent survives the death of this process."""

    async def contested(self, intent: CancelIntent) -> set[str]:
        """Those of its runs that an older intent of another sweep names which may still be at work."""

    async def record(self, intent: CancelIntent, finals: Sequence[tuple[Run, Cancellation]]) -> UUID:
        """Record these final objects, complete, in one artifact; its id."""

    async def recorded(self, intent: CancelIntent) -> dict[str, Recorded]:
        """Which of the intent's runs have their final object recorded, and where."""

    async def complete(
        self,
        intent: CancelIntent,
        still_open: Mapping[str, PendingCancel | None],
        *,
        recorded: Collection[str] = (),
        looked_at: datetime | None = None,
        plans: PlansLeft | None = None,
    ) -> CancelIntent:
        """Complete the intent, or leave it open for these runs and plans only. `CancelIntent.narrowed` is what is left.

        Args:
            intent: the intent.
            still_open: the runs that stay open.
            recorded: runs whose final object is recorded.
            looked_at: when these runs were read.
            plans: what is left of the plans; by default all but those of runs that leave the intent.
        """

    async def claim(self, intent: CancelIntent, *, by_hand: bool = False) -> set[str]:
        """Write down that the creates of its plans in state `sending` are about to be sent; which must not be.

        Those that another intent has claimed: it was earlier, or has sent one already. One that Extend has refused may
        be sent again `by_hand`.
        """

    async def recorded_elsewhere(self, intent: CancelIntent) -> set[str]:
        """Those of its runs that another sweep recorded within the last hour, even if it ended before it said so."""

    async def pending(self) -> list[CancelIntent]:
        """Intents of this kind that sweeps left open, oldest first, whatever their scope.

        None of a sweep that is still at work, or may be.
        """

    async def is_writable(self) -> bool:
        """Whether a small artifact can be written: a record that cannot be is then at fault itself."""
