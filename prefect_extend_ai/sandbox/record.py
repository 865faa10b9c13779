"""One run of the sandbox: its fixed attributes and its state."""

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
    """The changing part of a run. A listing may show an older state than a single read."""

    status: str
    updated_at: datetime
    failure_reason: str | None = None


@dataclass(slots=True, eq=False)
class Record:
    """One run.

    Attributes:
        number: determines the run's made-up content.
        file_id: its document's id; None for one that is made from the run's id.
        version: the version of its processor.
        raw: JSON fields that replace or extend those of the response.
        plan: times and statuses of the run's own changes; empty for a run that is stuck or has ended.
        state: the state that a single read shows.
        listed: the state that listings show; None before they show the run.
        cancel_mode: what a cancel of this run does; None for `Behaviour.cancel`.
        cancel_seconds: seconds that it takes; None for `Behaviour.cancel_seconds`.
        gets_left: single reads until a cancel takes effect; None where reads are not counted.
        cancels: number of accepted cancels.
        gone: whether it was deleted.
    """

    id: str
    kind: RunKind
    workspace: str
    number: int
    created_at: datetime
    state: State
    file_name: str | None = None
    file_id: str | None = None
    processor: Processor | None = None
    version: str = "2.1"
    source: str = "API"
    source_id: str | None = None
    batch_id: str | None = None
    metadata: dict[str, Any] | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    plan: list[tuple[datetime, str]] = field(default_factory=list)
    listed: State | None = None
    cancel_mode: CancelMode | None = None
    cancel_seconds: float | None = None
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
