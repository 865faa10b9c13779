"""What Prefect keeps, in memory: pending intents and records, which outlive a sweep's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded, Scope
from support.processes import Process


@dataclass
class Prefect:
    """What survives a process: pending intents and records."""

    intents: dict = field(default_factory=dict)
    records: list = field(default_factory=list)
    alive: set = field(default_factory=set)
    completed: set = field(default_factory=set)
    resubmitted: dict = field(default_factory=dict)
    sent_in_vain: set = field(default_factory=set)
    decided: dict = field(default_factory=dict)
    refused: dict = field(default_factory=dict)
    one_machine: bool = True

    def texts(self, run_id):
        return [texts[run_id] for _, _, texts in self.records if run_id in texts]

    def open_runs(self):
        return [intent.run_ids for intent in self.intents.values()]


@dataclass
class MemoryJournal:
    """A `Journal` in one process; `fails` maps the number of a call that fails to before or after."""

    prefect: Prefect
    process: Process
    fails: dict = field(default_factory=dict)
    down_from: int | None = None
    now: object = None
    scope: Scope = field(default_factory=lambda: Scope(kind=RunKind.CLASSIFY, api_url="https://api.extend.ai"))
    second_attempt_of: str | None = None
    earlier: dict = field(default_factory=dict)
    lasts: timedelta = timedelta(minutes=11)
    calls: int = 0

    async def _call(self, effect):
        await self.process.step()
        self.calls += 1
        fate = "before" if self.down_from is not None and self.calls >= self.down_from else self.fails.get(self.calls)
        if fate == "before":
            raise RecordError("Prefect does not answer")
        result = effect()
        await self.process.step()
        if fate == "after":
            raise RecordError("Prefect's answer was lost")
        return result

    @property
    def is_second_attempt(self):
        return self.second_attempt_of is not None

    def owns(self, intent):
        return intent.rule in (self.second_attempt_of, self.process.name) and intent.rule is not None

    def is_at_work(self, intent):
        if self.prefect.one_machine:
            return intent.rule in self.prefect.alive and not self.owns(intent)
        return not self.owns(intent) and self.now() < intent.lasts_until()

    async def log(self, run_ids, resubmit=None):
        intent = CancelIntent(
            id=uuid4(),
            scope=self.scope,
            run_ids=list(run_ids),
            resubmit=dict(resubmit or {}),
            opened_at=self.now(),
            until=self.now() + self.lasts,
            rule=self.process.name,
        )
        await self._call(lambda: self.prefect.intents.update({intent.id: intent}))
        return intent

    async def contested(self, intent):
        def find():
            older = list(self.prefect.intents.values())
            older = older[: older.index(self.prefect.intents[intent.id])]
            theirs = [each for each in older if self.is_at_work(each)]
            return {run_id for each in theirs for run_id in each.run_ids} & set(intent.run_ids)

        return await self._call(find)

    async def claim(self, intent, *, by_hand=False):
        def write():
            # As in Prefect, another version is a younger artifact.
            self.prefect.intents.pop(intent.id, None)
            self.prefect.intents[intent.id] = intent

        def find():
            mine = {run_id for run_id, plan in intent.resubmit.items() if plan.state == "sending"}
            theirs, is_older = {*self.prefect.resubmitted, *(() if by_hand else self.prefect.sent_in_vain)}, True
            for other in self.prefect.intents.values():
                if other.id == intent.id:
                    is_older = False
                    continue
                theirs.update(other.resubmitted, () if by_hand else other.sent_in_vain)
                sent = {id_: plan for id_, plan in other.resubmit.items() if plan.was_sent}
                theirs.update(id_ for id_, plan in sent.items() if is_older or plan.state == "unknown")
            return mine & theirs

        await self._call(write)
        return await self._call(find)

    async def record(self, intent, finals):
        assert finals
        record = (uuid4(), intent.id, {run.id: run.text for run, _ in finals})
        # Of several records of a run, one says what was decided.
        for _, each in finals:
            self.prefect.decided[each.run_id] = self.prefect.decided.get(each.run_id) or each.resubmission
        await self._call(lambda: self.prefect.records.append(record))
        return record[0]

    def _recorded(self, intent_ids):
        return {
            run_id: Recorded(artifact_id=id_, resubmission=self.prefect.decided.get(run_id))
            for id_, of, texts in self.prefect.records
            if of in intent_ids
            for run_id in texts
        }

    async def recorded(self, intent):
        return await self._call(lambda: self._recorded({intent.id}))

    async def recorded_earlier(self):
        return {run_id: Recorded.model_validate(where) for run_id, where in self.earlier.items()}

    async def recorded_elsewhere(self, intent):
        def find():
            others = [each for each in self.prefect.intents.values() if each.id != intent.id]
            told = {run_id for each in others for run_id in each.recorded}
            untold = self._recorded({each.id for each in others if not self.is_at_work(each)})
            return (told | {*untold} | self.prefect.completed) & set(intent.run_ids)

        return await self._call(find)

    async def complete(self, intent, still_open, *, recorded=(), looked_at=None, plans=None):
        narrowed = intent.narrowed(still_open, recorded, looked_at, plans)

        def narrow():
            self.prefect.intents.pop(intent.id, None)
            if narrowed.is_open:
                self.prefect.intents[intent.id] = narrowed
            else:
                self.prefect.completed.update(narrowed.recorded)
                self.prefect.resubmitted.update(narrowed.resubmitted)
                self.prefect.sent_in_vain.update(narrowed.sent_in_vain)
                self.prefect.refused.update(narrowed.not_resubmitted)

        await self._call(narrow)
        return narrowed

    async def pending(self):
        def find():
            found = [each for each in self.prefect.intents.values() if not self.is_at_work(each)]
            return sorted(found, key=lambda intent: intent.opened_at)

        return await self._call(find)

    async def is_writable(self):
        try:
            await self._call(lambda: None)
        except RecordError:
            return False
        return True
