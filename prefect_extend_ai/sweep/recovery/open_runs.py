"""Read again what an earlier sweep left open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendError, ExtendNotFoundError, ExtendPermissionError, ExtendServerError
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.journal import CancelIntent, Journal
from prefect_extend_ai.sweep.recovery.pending import at_sweep
from prefect_extend_ai.sweep.recovery.recovered import known_of, result_of
from prefect_extend_ai.sweep.report import Outcome, PendingCancel
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.stop import GivenUp, Stop, run_until
from prefect_extend_ai.sweep.witness import ACCOUNT_ERRORS, AccountWitness

__all__ = ["CHUNK", "OpenRuns"]

logger = logging.getLogger(__name__)

CHUNK = 50
"""Runs that are read before what has ended among them is recorded."""

CHUNK_BYTES = 16_000_000
"""Characters of final objects after which a chunk ends early."""

PROBES = 10
"""Runs of another scope's intent that are read, from all over it, before it is taken to be another account's."""

GOLDEN = (5**0.5 - 1) / 2
"""The fractional parts of its multiples are spread evenly and without a rhythm."""

MISSING_PATIENCE = timedelta(days=30)
"""For how long a run that is not found keeps its intent open: without a workspace in the credentials, an intent may be
another workspace's, whose own sweep will find the run."""


@dataclass(slots=True)
class OpenRuns:
    """Reads the runs of cancel intents that earlier sweeps left open.

    Attributes:
        client: an open client.
        journal: where the intents are kept.
        stop: once set, no further run is read.
        slot: held while a run is read.
        account: distinguishes an error of one run from one of the whole account.
        raises_alarms: whether this sweep raises alarms about runs that have been pending for long.
        unread: open runs that this sweep could not read, or has not read yet.
    """

    client: ExtendClient
    journal: Journal
    stop: Stop
    slot: Callable[[], AbstractAsyncContextManager[object]]
    account: AccountWitness
    raises_alarms: bool = True
    unread: set[str] = field(default_factory=set)

    def now(self) -> datetime:
        """The time, for how long something has been pending."""
        return self.client.now().time

    async def are_ours(self, run_ids: Sequence[str]) -> bool:
        """Whether this account can read an intent that was logged under another address or workspace."""
        for run_id in _spread(run_ids):
            try:
                await self._get(run_id)
            except (ExtendNotFoundError, ExtendPermissionError, ExtendServerError):
                continue  # it was deleted, or only this run cannot be read
            except (ExtendError, GivenUp):
                return False
            return True
        return False

    async def read_chunk(
        self, intent: CancelIntent, run_ids: Sequence[str]
    ) -> tuple[list[Result], dict[str, PendingCancel], list[str]]:
        """Read some of these runs: those that have ended, those that stay open, and those that are still to be read."""
        ended: list[Result] = []
        pending: dict[str, PendingCancel] = {}
        size, place = 0, 0
        while place < min(CHUNK, len(run_ids)) and size < CHUNK_BYTES and self.stop.reason is None:
            some = run_ids[place : place + 10]
            place += len(some)
            for run_id, found in zip(
                some, await asyncio.gather(*(self.read(intent, each) for each in some)), strict=True
            ):
                if isinstance(found, Result):
                    ended.append(found)
                    size += len(found.final.text) if found.final else 0
                elif found is not None:
                    pending[run_id] = found
        return ended, pending, list(run_ids[place:])

    async def read(self, intent: CancelIntent, run_id: str) -> Result | PendingCancel | None:
        """How a run of an open intent ended; what is known of it where it has not; None where it no longer exists."""
        before = known_of(intent, run_id)
        now = self.now()
        try:
            run = await self._get(run_id)
        except ExtendNotFoundError:
            gone = before.model_copy(update={"outcome": before.outcome or Outcome.NOT_FOUND})
            return None if now - intent.opened_at > MISSING_PATIENCE else at_sweep(gone, now, None, alarm=False)
        except GivenUp:
            pass
        except ExtendError as error:
            if isinstance(error, ACCOUNT_ERRORS):
                await self.account.is_at_fault(error)
            logger.warning("Run %s of an earlier sweep could not be read, and stays open: %s", run_id, error)
        else:
            if run.is_terminal:
                return Result(result_of(run, before), run.without_document())
            found = at_sweep(before, now, run.status, alarm=self.raises_alarms)
            # Nobody was alarmed about what an earlier attempt of this flow run left: Prefect retried it instead.
            is_news = found.is_news or (self.raises_alarms and self.journal.owns(intent))
            return found.model_copy(update={"is_news": is_news})
        self.unread.add(run_id)
        return at_sweep(before, now, None, alarm=self.raises_alarms and self.stop.reason is None)

    async def _get(self, run_id: str) -> Run:
        async with self.slot():
            if self.stop.reason is not None:
                raise GivenUp
            reading = self.client.get_run(run_id, self.journal.scope.kind)
            return await run_until(self.stop, reading)

    def raise_account_error(self) -> None:
        """Raise the error that concerns the whole account, where one has stopped the sweep."""
        if isinstance(self.stop.error, ACCOUNT_ERRORS):
            raise self.stop.error


def _spread(run_ids: Sequence[str]) -> list[str]:
    """Some of these runs, from all over the list and at uneven distances."""
    return [run_ids[place] for place in sorted({int(number * GOLDEN % 1 * len(run_ids)) for number in range(PROBES)})]
