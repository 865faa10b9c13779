"""A sweep over runs in memory."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from uuid import uuid4

from prefect_extend_ai.errors import ExtendAuthError, RecordRefusedError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep import NamedRuns, StaleRuns, Sweep
from prefect_extend_ai.sweep.journal import CancelIntent
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.scan import Target
from support.extend import Client, Extend
from support.journals import MemoryJournal, Prefect
from support.processes import Process


def in_progress(run):
    return None if run.status == "PROCESSING" else "not in progress"


class InProgress(NamedRuns):
    """Named runs, to be cancelled while they are in progress."""

    def recheck(self, run, target):  # noqa: ARG002
        return in_progress(run)


class StaleInProgress(StaleRuns):
    """The same for runs that a sweep found, whatever their age."""

    def recheck(self, run, target):  # noqa: ARG002
        return in_progress(run)


class Stage:
    """A sweep over runs in memory, which keeps a diary of what was done."""

    def __init__(self, runner, runs, *, fails=(), down_from=None, **options):
        loop = runner.get_loop()
        self.runner, self.options = runner, options
        self.loop = loop
        self.extend = Extend(loop, runs)
        self.prefect = self.extend.prefect = Prefect()
        self.did = []
        self.fails, self.down_from, self.sweeps = dict(fails), down_from, 0
        self.begin()

    def begin(self, *, named=False, **options):
        """Another sweep: a new process over the same Extend and the same Prefect."""
        self.sweeps += 1
        process = Process(f"sweep-{self.sweeps}", latencies=random.Random(0))
        self.journal = MemoryJournal(self.prefect, process, self.fails, self.down_from, self.extend.now)
        self.fails, self.down_from = {}, None
        self.client = Client(self.extend, process)
        for of, name in [(self.client, "get_run"), (self.client, "cancel_run")]:
            self.tell(of, name)
        for name in ("log", "contested", "record", "recorded", "complete", "pending"):
            self.tell(self.journal, name)
        self.sweep = Sweep(
            self.client,
            self.journal,
            InProgress(RunKind.CLASSIFY, ["clr_1"]) if named else StaleInProgress(RunKind.CLASSIFY, 60),
            **self.options | options,
        )
        return self.sweep

    def refuse_account(self):
        """Answer 401 to every listing: the fault is everybody's."""

        async def refuse(*_, **__):
            raise ExtendAuthError("wrong key", status=401)
            yield

        self.client.iter_pages = refuse

    def play(self, *, minutes=0, refuse_records=False, refuse_account=False, second_attempt_of=None, **options):
        """Let time pass, then sweep as the flow does; what its report says."""
        self.runner.run(asyncio.sleep(minutes * 60))
        sweep = self.begin(raises_alarms=True, **options)
        self.journal.second_attempt_of = second_attempt_of
        if refuse_account:
            self.refuse_account()
        if refuse_records:

            async def refuse(*_):
                raise RecordRefusedError("413 too large")

            self.journal.record = refuse

        async def whole():
            recovered = await sweep.recover()
            targets = [Target(run_id) for run_id in self.extend.world.stale()]
            parts = sweep.divide(targets)
            done = [*(await sweep.cancel_batch(parts.to_ask) if parts.to_ask else []), *parts.deferred]
            recovered += await sweep.recover_more(450)
            await sweep.finish()
            facts = {"pending": sweep.pending, "unrecorded": sweep.unrecorded, "recovered": recovered}
            report = SweepReport(limit_minutes=60, open_elsewhere=sweep.open_elsewhere, **facts)
            return report.with_cancellations(done)

        return self.run(whole())

    def tell(self, of, name):
        does = getattr(of, name)

        async def telling(*args, **options):
            result = await does(*args, **options)
            self.did.append(name)
            return result

        setattr(of, name, telling)

    def target(self, run_id):
        return Target(run_id)

    def leave_open(self, *run_ids, hours=1, scope=None, rule="earlier"):
        """An intent that an earlier sweep left."""
        opened = self.extend.now() - timedelta(hours=hours)
        scope = self.journal.scope.model_copy(update=scope or {})
        intent = CancelIntent(id=uuid4(), scope=scope, run_ids=list(run_ids), opened_at=opened, rule=rule)
        self.prefect.intents[intent.id] = intent
        return intent

    def cancel(self):
        return self.run(self.sweep.cancel_batch([Target(run_id) for run_id in self.extend.runs]))

    def recover(self):
        return self.run(self.sweep.recover())

    def run(self, doing):
        return self.runner.run(doing)

    @property
    def seconds(self):
        return self.loop.time()
