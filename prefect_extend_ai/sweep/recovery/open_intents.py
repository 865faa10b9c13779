"""The intents that earlier sweeps left open: narrowed as their runs end, and taken over by this sweep's own."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from uuid import UUID

from prefect_extend_ai.sweep.journal import CancelIntent
from prefect_extend_ai.sweep.plans import PlansLeft, ResubmitPlan
from prefect_extend_ai.sweep.recorder import Recorder
from prefect_extend_ai.sweep.recovery.recovered import known_of
from prefect_extend_ai.sweep.report import PendingCancel

__all__ = ["OpenIntents"]


class OpenIntents:
    """The intents of earlier sweeps that stay open.

    Args:
        recorder: completes intents.
        pending: what this sweep knows of each run that is still open; kept up to date by its owner.
    """

    def __init__(self, recorder: Recorder, pending: Mapping[str, PendingCancel]) -> None:
        self._recorder = recorder
        self._pending = pending
        self._intents: dict[UUID, CancelIntent] = {}
        self._adopting = asyncio.Lock()

    def __iter__(self) -> Iterator[CancelIntent]:
        return iter(list(self._intents.values()))

    def add(self, intent: CancelIntent) -> None:
        """This intent stays open."""
        self._intents[intent.id] = intent

    async def keep(
        self,
        intent: CancelIntent,
        run_ids: Iterable[str],
        plans: PlansLeft | None = None,
        looked_at: datetime | None = None,
    ) -> CancelIntent:
        """Narrow an intent to these runs and plans, or complete it where there are none."""
        still_open = {run_id: intent.known.get(run_id) for run_id in run_ids}
        # One that was logged under another address or workspace is this scope's from here on.
        journal = self._recorder.journal
        ours = intent.model_copy(update={"scope": journal.scope})
        kept = await journal.complete(ours, still_open, looked_at=looked_at, plans=plans)
        self._intents.pop(intent.id, None)
        if kept.is_open:
            self.add(kept)
        return kept

    async def adopt(self, intent: CancelIntent) -> dict[str, PendingCancel]:
        """Take runs of this new intent out of the earlier ones that left them open; what is known of each."""
        adopted: dict[str, PendingCancel] = {}
        # One batch after another: each narrows what the one before it has left.
        async with self._adopting:
            for left in self:
                ours = set(left.run_ids).intersection(intent.run_ids)
                if ours:
                    adopted |= {run_id: self._pending.get(run_id) or known_of(left, run_id) for run_id in ours}
                    await self.keep(left, [run_id for run_id in left.run_ids if run_id not in ours])
        return adopted

    async def remember_alarms(self) -> None:
        """Write down which alarms this sweep has raised, so that no other raises them again."""
        for left in self:
            if any(self._pending[run_id].is_news for run_id in left.run_ids if run_id in self._pending):
                await self._recorder.complete(left, {run_id: self._known(left, run_id) for run_id in left.run_ids})

    def plans_of(self, run_ids: Collection[str]) -> dict[str, ResubmitPlan]:
        """The plans of earlier sweeps for runs that they left open."""
        return {
            run_id: plan
            for left in self
            for run_id, plan in left.resubmit.items()
            if run_id in run_ids and run_id in left.run_ids and not plan.was_sent
        }

    def _known(self, intent: CancelIntent, run_id: str) -> PendingCancel | None:
        found = self._pending.get(run_id)
        return intent.known.get(run_id) if found is None else found.model_copy(update={"is_news": False})
