"""One run as the sandbox keeps it: what never changes, and the state that does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox.behaviour import CancelMode

__all__ = ["Processor", "Record", "State"]


@dataclass(frozen=True, slots=True)
class Processor:
    """A classifier, extractor, splitter or workflow."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class State:
    """What changes over a run's life. A listing may show an older one than a single read does."""

    status: str
    updated_at: datetime
    failure_reason: str | None = None


@dataclass(slots=True, eq=False)
class Record:
    """One run.

    Attributes:
        number: picks the run's made-up content, the same every time it is read.
        raw: JSON fields that replace or join what the sandbox would send.
        plan: when the run takes which status by itself; empty for a run that is stuck or has ended.
        state: what a single read shows.
        listed: what listings show; None before they know the run.
        cancel_mode: what a cancel of this run does, where that is not what `Behaviour.cancel` says.
        gets_left: single reads until a cancel takes, where reads are counted.
        cancels: how many cancels of it were accepted.
        gone: whether it was deleted.
    """

    id: str
    kind: RunKind
    workspace: str
    number: int
    created_at: datetime
    state: State
    file_name: str | None = None
    processor: Processor | None = None
    source: str = "API"
    source_id: str | None = None
    batch_id: str | None = None
    metadata: dict[str, Any] | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    plan: list[tuple[datetime, str]] = field(default_factory=list)
    listed: State | None = None
    cancel_mode: CancelMode | None = None
    gets_left: int | None = None
    cancels: int = 0
    gone: bool = False

    @property
    def status(self) -> str:
        """The status that a single read shows."""
        return self.state.status

    @property
    def updated_at(self) -> datetime:
        """The last change that a single read shows."""
        return self.state.updated_at
