"""What is to be done about the document of a cancelled run: the plan that an intent carries, and its request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["PlansLeft", "Request", "ResubmitPlan"]


class ResubmitPlan(BaseModel):
    """What is to be done about the document of a run that is about to be cancelled: ids, numbers and times.

    Attributes:
        first_run: the document's first run.
        replaces: the run before this one; None for the first.
        attempt: the number that the new run would have; the first that is submitted again has 1.
        gives_up: whether the run is the last attempt: then nothing more is submitted.
        why_not: why the document cannot be submitted again, where that is known before the cancel.
        updated_at: the run's last change, as it was listed.
        planned_at: when the plan was logged first, by the clock of the machine that logged it.
        state: `sending` once a create may have been sent, `unknown` once it was looked for and not found.
        sent_at: when that create may have been sent, at the earliest.
    """

    model_config = ConfigDict(frozen=True)

    first_run: str
    replaces: str | None = None
    attempt: int
    gives_up: bool = False
    why_not: str | None = None
    updated_at: datetime | None = None
    planned_at: datetime | None = None
    state: Literal["planned", "sending", "unknown"] = "planned"
    sent_at: datetime | None = None

    @property
    def was_sent(self) -> bool:
        """Whether a create may have been sent: then no other ever is."""
        return self.state != "planned"

    def now(self, state: Literal["planned", "sending", "unknown"], at: datetime | None = None) -> ResubmitPlan:
        """The same plan in another state."""
        return self.model_copy(update={"state": state, "sent_at": self.sent_at if at is None else at})


@dataclass(frozen=True, slots=True)
class PlansLeft:
    """What is left of an intent's plans.

    Attributes:
        left: the plans that are still to be finished, by run.
        new_runs: runs that were submitted again, and as which.
        refused: runs that were not, and why: a sweep may die before its report says so.
        sent_in_vain: those of them whose create was sent, and refused by Extend.
    """

    left: Mapping[str, ResubmitPlan] = field(default_factory=dict)
    new_runs: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    sent_in_vain: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """The request that submits a run's document again. Its repr shows nothing of the document.

    Attributes:
        run_id: the run to replace.
        plan: its plan.
        body: the JSON of the request.
        config: a digest of the old run's configuration, to compare the new one's with.
        created_after: no run that replaces it was created before this, by Extend's clock.
    """

    run_id: str
    plan: ResubmitPlan
    body: Mapping[str, Any] = field(repr=False)
    config: str | None = field(repr=False)
    created_after: datetime | None = None
