"""How runs change: by their plan, by time, and by requests."""

from __future__ import annotations

import heapq
import itertools
from datetime import datetime, timedelta

from prefect_extend_ai.runs import CANCELLED, FAILED, PROCESSED, PROCESSING, RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour, CancelMode
from prefect_extend_ai.sandbox.faults import Fault
from prefect_extend_ai.sandbox.listing import Listing
from prefect_extend_ai.sandbox.record import Record, State
from prefect_extend_ai.sandbox.troubles import Trouble

__all__ = ["Life"]


class Life:
    """Everything that changes a run. Times are parameters; `tick` applies what is due."""

    def __init__(self, behaviour: Behaviour, listing: Listing) -> None:
        self._behaviour = behaviour
        self._listing = listing
        # What is due when: a step of a run's plan, or a state that appears in listings.
        self._events: list[tuple[datetime, int, Record, State | None]] = []
        self._order = itertools.count()

    def start(self, record: Record, now: datetime, *, late: bool = False) -> None:
        """Show a new run in listings, and start its plan; `late` for one that listings show with their lag."""
        if late and self._behaviour.list_lag_seconds:
            self._push(now + timedelta(seconds=self._behaviour.list_lag_seconds), record, record.state)
        else:
            self._listing.show(record, record.state)
        self._wake(record, now)

    def end(self, record: Record) -> None:
        """Stop everything that is due for a deleted run."""
        record.plan.clear()
        record.gone = True
        self._listing.show(record, None)

    def change(
        self, record: Record, status: str, now: datetime, reason: str | None = None, *, moves: bool = True
    ) -> None:
        """Give a run another status. An end also ends its plan; `moves` says whether `updatedAt` moves."""
        if status in record.kind.terminal:
            record.plan.clear()
        self._become(record, State(status, now if moves else record.updated_at, reason), now)

    def touch(self, record: Record, now: datetime) -> None:
        """Move a run's `updatedAt`."""
        self._become(record, State(record.status, now, record.state.failure_reason), now)

    def disturb(self, record: Record, trouble: Trouble, now: datetime) -> None:
        """Apply a fault that changes the run right before a request for it."""
        match trouble.what:
            case "finish" if record.status not in record.kind.terminal:
                self.change(record, PROCESSED, now)
            case "status":
                self.change(record, trouble.value, now)
            case "touch":
                self.touch(record, now)
            case "cancel":
                record.cancel_mode = trouble.value  # type: ignore[assignment]  # checked when it was parsed

    def read(self, record: Record, now: datetime) -> None:
        """Count a single read: with `cancel=on_get` it may complete a cancel."""
        if record.gets_left is None:
            return
        record.gets_left -= 1
        if record.gets_left <= 0:
            record.gets_left = None
            self.change(record, CANCELLED, now, moves=self._behaviour.cancel_moves_updated_at)

    def cancel(self, record: Record, now: datetime) -> CancelMode | None:
        """Cancel a run. Returns the mode of the cancel, None without effect; raises Fault for a refusal."""
        behaviour = self._behaviour
        if record.status in record.kind.terminal and (
            # Documented for verify runs: a cancel of one that has ended changes nothing and succeeds.
            record.kind is RunKind.VERIFY or behaviour.second_cancel == "no_op"
        ):
            return None
        cancellable = record.kind.cancellable | ({"PENDING"} if behaviour.pending_cancellable else set())
        if record.status not in cancellable:
            message = f"Only a {record.kind.object_name} that is in progress can be cancelled; it is {record.status}."
            raise Fault(behaviour.refusal_status, behaviour.refusal_code, message)
        record.cancels += 1
        mode = record.cancel_mode or behaviour.cancel
        self._accept(record, mode, now)
        self._wake(record, now)
        return mode

    def _accept(self, record: Record, mode: CancelMode, now: datetime) -> None:
        moves = self._behaviour.cancel_moves_updated_at
        seconds = self._behaviour.cancel_seconds if record.cancel_seconds is None else record.cancel_seconds
        later = now + timedelta(seconds=seconds)
        match mode:
            case "later":
                record.plan = [(later, CANCELLED)]
            case "on_get":
                record.plan.clear()
                record.gets_left = record.gets_left or self._behaviour.cancel_gets
            case "cancelling":
                self.change(record, "CANCELLING", now, moves=moves)
                record.plan = [(later, CANCELLED)]
            case "aborted":
                # Both values are documented; the first is for verify runs.
                reason = "REQUEST_ABORTED" if record.kind is RunKind.VERIFY else "ABORTED"
                self.change(record, FAILED, now, reason, moves=moves)
            case "finishes":
                record.plan = [(later, PROCESSED)]
            case "never":
                record.plan.clear()
            case _:
                self.change(record, CANCELLED, now, moves=moves)

    def tick(self, now: datetime) -> None:
        """Apply everything that is due."""
        while self._events and self._events[0][0] <= now:
            when, _, record, listed = heapq.heappop(self._events)
            if record.gone:
                continue
            if listed is not None:
                self._listing.show(record, listed)
            elif record.plan:
                self._step(record, when, now)

    def _step(self, record: Record, when: datetime, now: datetime) -> None:
        due, status = record.plan[0]
        if due <= when:
            record.plan.pop(0)
            reason = "INTERNAL_ERROR" if status == FAILED else None
            moves = status != CANCELLED or self._behaviour.cancel_moves_updated_at
            self._become(record, State(status, due if moves else record.updated_at, reason), due)
            self._wake(record, due)
        elif self._behaviour.heartbeat_seconds and record.status == PROCESSING:
            # One event for all missed heartbeats, so that the clock may jump by days.
            beat = timedelta(seconds=self._behaviour.heartbeat_seconds)
            last = when + (min(now, due) - when) // beat * beat
            self._become(record, State(PROCESSING, last), last)
            self._push(min(last + beat, due), record)

    def _wake(self, record: Record, now: datetime) -> None:
        if record.plan:
            due = record.plan[0][0]
            if self._behaviour.heartbeat_seconds and record.status == PROCESSING:
                due = min(due, now + timedelta(seconds=self._behaviour.heartbeat_seconds))
            self._push(due, record)

    def _become(self, record: Record, state: State, now: datetime) -> None:
        record.state = state
        if self._behaviour.list_lag_seconds:
            self._push(now + timedelta(seconds=self._behaviour.list_lag_seconds), record, state)
        else:
            self._listing.show(record, state)

    def _push(self, when: datetime, record: Record, listed: State | None = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), record, listed))
