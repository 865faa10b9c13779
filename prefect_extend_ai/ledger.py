"""What a sweep writes down, so that nothing it cancelled can be lost.

Before the first cancel of a batch its note is durable: these runs are about to be cancelled. The note is closed
once the final object of each is recorded. A process that dies in between leaves the note open, and the next sweep
of the same scope finds it, reads each run, and records what became final.

`Ledger` is the protocol; `prefect_extend_ai.tasks.ledger` keeps it in Prefect's artifacts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from prefect_extend_ai.report import Cancellation
from prefect_extend_ai.runs import Run, RunKind

__all__ = ["Ledger", "Note", "Scope"]


class Scope(BaseModel):
    """Whose runs: sweeps of the same scope settle each other's open notes."""

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


class Note(BaseModel):
    """Runs that are about to be cancelled: ids and facts about the sweep, nothing of what the runs hold."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    scope: Scope
    run_ids: list[str]
    opened_at: datetime
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    rule: str = ""
    """What selected the runs, in words."""


class Ledger(Protocol):
    """Where one scope's notes and records are kept. Every method raises RecordError when it could not do its work."""

    scope: Scope

    async def open(self, run_ids: Sequence[str]) -> Note:
        """Write ahead; when this returns, the note survives the death of this process."""

    async def record(self, note: Note, finals: Sequence[tuple[Run, Cancellation]]) -> UUID:
        """Keep these final objects, whole, in an artifact of their own; its id."""

    async def recorded(self, note: Note) -> dict[str, UUID]:
        """Which of the note's runs have their final object recorded, and in which artifact."""

    async def close(self, note: Note, still_open: Collection[str] = ()) -> None:
        """Close the note, or leave it open for these runs only."""

    async def open_notes(self) -> list[Note]:
        """Notes that earlier sweeps of this scope left open, oldest first; none of a sweep that is still alive."""
