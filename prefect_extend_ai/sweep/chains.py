"""Documents that are submitted again, for reports."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AGAIN", "ChainedRun", "PendingResubmission", "Resubmission", "in_words"]

Resubmission = Literal["submitted", "ineligible", "given_up", "unknown"]
"""The result of submitting a cancelled run's document again: a new run; it cannot be; it was the last attempt; a
request was sent and not answered, and no new run is found."""

AGAIN: dict[Resubmission, str] = {
    "submitted": "submitted again",
    "given_up": "given up",
    "unknown": "may have been submitted again",
    "ineligible": "not submitted again",
}
"""The same in the words of a headline."""

_ORDER = [
    "submitted again",
    "would be submitted again",
    "to be submitted again",
    "given up",
    "would be given up",
    "not submitted again",
    "may have been submitted again",
    "still looked for",
    "looked for in vain",
]


class ChainedRun(BaseModel):
    """An earlier run of a document that was submitted again."""

    model_config = ConfigDict(frozen=True)

    run_id: str = Field(description="The run's id.")
    status: str | None = Field(default=None, description="Its status, as the API wrote it; None where unknown.")


class PendingResubmission(BaseModel):
    """A document of an earlier sweep's cancelled run, and what this sweep knows or did about submitting it again."""

    model_config = ConfigDict(frozen=True)

    run_id: str = Field(description="The cancelled run.")
    first_run: str = Field(description="The document's first run.")
    attempt: int = Field(description="The number of the run that replaces it, or is to; the first one has 1.")
    resubmission: Resubmission | None = Field(
        default=None, description="What came of it; None where it is still to be."
    )
    resubmitted_as: str | None = Field(default=None, description="The run that replaces it.")
    reason: str = Field(default="", description="Why, in words for a person.")
    since: datetime = Field(description="When the run was to be cancelled.")
    is_news: bool = Field(default=False, description="Whether it requires action, and no earlier sweep reported it.")
    is_looked_for: bool = Field(default=False, description="Whether later sweeps look for the new run.")

    @property
    def in_words(self) -> str:
        """What came of it, for the headline."""
        if self.resubmission == "unknown" and not self.is_news:
            return "still looked for" if self.is_looked_for else "looked for in vain"
        return "to be submitted again" if self.resubmission is None else AGAIN[self.resubmission]


def in_words(counts: Counter[str]) -> str:
    """Part of a headline: "3 submitted again, 1 given up"; empty where nothing was to be submitted again."""
    return ", ".join(f"{counts[word]} {word}" for word in sorted(counts, key=_ORDER.index))
