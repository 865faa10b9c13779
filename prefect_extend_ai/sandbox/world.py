"""The state of the sandbox: its runs, and its time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_extend_ai.runs import PROCESSED, PROCESSING, KindName, RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.dice import dice_of, new_id
from prefect_extend_ai.sandbox.faults import Fault
from prefect_extend_ai.sandbox.journal import Entry
from prefect_extend_ai.sandbox.life import Life
from prefect_extend_ai.sandbox.lifetimes import live
from prefect_extend_ai.sandbox.limits import Limiter
from prefect_extend_ai.sandbox.listing import Listing, Page, Query
from prefect_extend_ai.sandbox.objects import full, summary, to_text
from prefect_extend_ai.sandbox.population import populate
from prefect_extend_ai.sandbox.record import Processor, Record, State
from prefect_extend_ai.sandbox.troubles import Trouble, Troubles

__all__ = ["API_KEY", "WORKSPACE", "World"]

API_KEY = "sk_sandbox"
WORKSPACE = "ws_sandbox"


def _real_time() -> datetime:
    return datetime.now(UTC)


class World:
    """The state of the sandbox. Safe to use from a test while a server thread serves it.

    Args:
        clock: returns the time, an aware datetime. A test passes one, or uses `advance`.
        behaviour: assumptions about what the vendor does not document.
        keys: API keys and the workspace each is bound to; None for an organization key, which must name one
            with each request.
        requests_per_second: the rate limit of each category; None for no limit.
        troubles: fault rules, see docs/sandbox.md.
        chaos: a seed for random faults; None for none.
        seed: makes ids and contents the same every time.
        sleep: delays a slow response by a number of seconds; a test with a virtual clock passes another.

    Attributes:
        runs: all runs by id. Call `get` for the current state of one.
        journal: one entry a request, in the order in which they were answered.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = _real_time,
        behaviour: Behaviour | None = None,
        keys: dict[str, str | None] | None = None,
        requests_per_second: float | None = None,
        troubles: Iterable[Trouble | str] = (),
        chaos: int | None = None,
        seed: int = 1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.keys = {API_KEY: WORKSPACE} if keys is None else keys
        self.limiter = Limiter(requests_per_second)
        self.troubles = Troubles(troubles, chaos)
        self.sleep = sleep
        self.runs: dict[str, Record] = {}
        self.journal: list[Entry] = []
        self.lock = threading.RLock()
        self._clock = clock
        self._ahead = timedelta()
        self._rng = dice_of(f"ids/{seed}")
        self._listing = Listing()
        self._due: list[tuple[datetime, Record]] = []
        self.life = Life(self.behaviour, self._listing)

    @classmethod
    def populated(
        cls,
        runs: int = 60,
        stuck: int = 12,
        seed: int = 1,
        kind: RunKind | KindName = "classify",
        **options: Any,
    ) -> World:
        """A world with a population of one kind, see `populate`; `options` are those of `World`."""
        world = cls(seed=seed, **options)
        world.populate(runs=runs, stuck=stuck, seed=seed, kind=kind)
        return world

    def populate(
        self,
        *,
        runs: int = 60,
        stuck: int = 12,
        seed: int = 1,
        kind: RunKind | KindName = "classify",
        workspace: str = WORKSPACE,
    ) -> None:
        """Add a made-up population: `runs` runs of a kind of which `stuck` are stale by any limit up to an hour."""
        populate(self, runs=runs, stuck=stuck, seed=seed, kind=RunKind(kind), workspace=workspace)

    def live(self, kind: RunKind | KindName = "classify", *, workspace: str = WORKSPACE, **options: Any) -> None:
        """Add runs as an account has them, submitted over the last days; `options` are those of `lifetimes.live`."""
        live(self, RunKind(kind), workspace, **options)

    def now(self) -> datetime:
        """The sandbox's time: the clock's time plus all calls of `advance`."""
        return self._clock() + self._ahead

    def date(self) -> datetime:
        """The time for the `Date` header of a response."""
        return self.now() + timedelta(minutes=self.behaviour.date_ahead_minutes)

    def advance(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Advance the sandbox's time."""
        self._ahead += timedelta(minutes=minutes, seconds=seconds)

    def add(
        self,
        kind: RunKind | KindName = "classify",
        status: str = PROCESSING,
        *,
        age_minutes: float = 0,
        created_minutes: float | None = None,
        updated_minutes: float | None = None,
        id: str | None = None,  # noqa: A002  # the API's own word
        workspace: str = WORKSPACE,
        processor: Processor | str | None = None,
        source: str = "API",
        source_id: str | None = None,
        batch_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        file_name: str | None = "document.pdf",
        file_id: str | None = None,
        version: str = "2.1",
        failure_reason: str | None = None,
        plan: Sequence[tuple[float, str]] = (),
        late: bool = False,
        **raw: Any,
    ) -> str:
        """Add a run and return its id.

        Args:
            kind: its kind.
            status: its status; it may be an unknown one.
            age_minutes: minutes since it was created and last changed, unless the next two are given.
            created_minutes: minutes since it was created.
            updated_minutes: minutes since it last changed.
            id: its id; a new one like the API's where none is given.
            workspace: the workspace that it lives in.
            processor: its classifier (extractor, ...) or the id of one; None for an inline config.
            source: what made it, as the listing filters it.
            source_id: the id of its source.
            batch_id: the batch that it belongs to.
            metadata: the metadata from its creator.
            file_name: its document's name; None for a document that could not be read.
            file_id: its document's id; one made from the run's id where none is given.
            version: the version of its processor.
            failure_reason: why it FAILED.
            plan: pairs of seconds from now and the run's status then; a run without a plan does not change.
            late: whether it appears as late as a run that a request creates.
            raw: JSON fields that replace or extend those of the response: `updatedAt=None`, `newField={...}`.
        """
        kind = RunKind(kind)
        with self.lock:
            now = self.now()
            created = now - timedelta(minutes=age_minutes if created_minutes is None else created_minutes)
            updated = now - timedelta(minutes=age_minutes if updated_minutes is None else updated_minutes)
            record = Record(
                id=id or new_id(kind.id_prefix, self._rng),
                kind=kind,
                workspace=workspace,
                number=self._rng.randrange(1_000_000),
                created_at=created,
                state=State(status, updated, failure_reason),
                file_name=file_name,
                file_id=file_id,
                version=version,
                processor=Processor(processor, processor) if isinstance(processor, str) else processor,
                source=source,
                source_id=source_id,
                batch_id=batch_id,
                metadata=metadata,
                raw=raw,
                plan=[(now + timedelta(seconds=after), what) for after, what in plan],
            )
            wait = timedelta(seconds=self.behaviour.create_seconds if late else 0)
            if wait:
                self._due.append((now + wait, record))
            else:
                self._appear(record, now, late=late)
            return record.id

    def _appear(self, record: Record, now: datetime, *, late: bool) -> None:
        self.runs[record.id] = record
        self.life.start(record, now, late=late)

    def get(self, run_id: str) -> Record:
        """A run, after everything due. Raises KeyError for an unknown id."""
        with self.lock:
            self.tick()
            return self.runs[run_id]

    def text(self, run_id: str) -> str:
        """The JSON that a single read returns now."""
        with self.lock:
            record = self.get(run_id)
            return to_text(full(record, record.state, self.behaviour))

    def full(self, run_id: str) -> dict[str, Any]:
        """The JSON that a single read returns now, parsed."""
        body: dict[str, Any] = json.loads(self.text(run_id))
        return body

    def stale(self, minutes: float = 60, kind: RunKind | KindName = "classify") -> list[str]:
        """Ids of the runs that are PROCESSING, unchanged for longer than `minutes` and not held, oldest first."""
        with self.lock:
            self.tick()
            since = self.now() - timedelta(minutes=minutes)
            found = [
                record
                for record in self.runs.values()
                if record.kind == kind and record.status == PROCESSING and record.updated_at < since
                if not (record.metadata or {}).get("prefect_hold")
            ]
            return [record.id for record in sorted(found, key=lambda record: record.updated_at)]

    def cancels(self, run_id: str) -> int:
        """The number of accepted cancels of a run."""
        return self.runs[run_id].cancels

    # Operations of the API; the caller holds the lock.

    def find(self, kind: RunKind, workspace: str, run_id: str) -> Record:
        """A run of a kind in a workspace. Raises Fault 404 for any other."""
        record = self.runs.get(run_id)
        if record is None or record.kind is not kind or record.workspace != workspace:
            raise Fault(404, "NOT_FOUND", f"No {kind.object_name} {run_id} in this workspace.")
        return record

    def read(self, record: Record) -> str:
        """The body of the response to a single read."""
        self.life.read(record, self.now())
        return to_text(full(record, record.state, self.behaviour))

    def page(self, query: Query, token: str | None) -> Page:
        """One page of a listing. Raises Fault 400 for a token of another query."""
        return self._listing.page(query, token, self.behaviour, self.now())

    def listed(self, record: Record) -> dict[str, Any]:
        """The JSON of a run in listings."""
        return summary(record, record.listed or record.state, self.behaviour)

    def cancel(self, record: Record) -> str:
        """Cancel a run and return the body of the response. Raises Fault for a run that cannot be cancelled."""
        mode = self.life.cancel(record, self.now())
        if mode == "empty":
            return ""
        shown = State("PENDING", record.updated_at) if mode == "pending" else record.state
        return to_text(full(record, shown, self.behaviour))

    def create(self, kind: RunKind, workspace: str, **facts: Any) -> str:
        """Create a run and return the body of the response. `facts` are those of `add`."""
        seconds = self.behaviour.created_run_seconds
        plan = [] if seconds is None else [(seconds, PROCESSED)]
        run_id = self.add(kind, PROCESSING, plan=plan, workspace=workspace, late=True, **facts)
        record = self.runs.get(run_id) or next(each for _, each in self._due if each.id == run_id)
        return to_text(full(record, record.state, self.behaviour))

    def remove(self, record: Record) -> None:
        """Delete a run."""
        del self.runs[record.id]
        self.life.end(record)

    def tick(self) -> None:
        """Apply everything that is due."""
        for due in [each for each in self._due if each[0] <= self.now()]:
            self._due.remove(due)
            self._appear(due[1], due[0], late=True)
        self.life.tick(self.now())
