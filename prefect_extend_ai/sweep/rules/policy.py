"""What else decides whether a run is stale, and how far one sweep may go: the form, its bounds, its validation."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import check_run_id

__all__ = ["DEFAULT_POLICY", "LONGEST_MINUTES", "OUTAGE_FROM", "StalePolicy"]

OUTAGE_FROM = 20
"""From how many stale runs on the outage guard looks whether anything finishes at all."""

LONGEST_MINUTES = 5_256_000
"""Ten years: a longer limit is a slip of the hand, and longer still no clock can tell."""

# A blank id or filter is a mistake in somebody's script, and must never come to mean "all".
Filled = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _a_run_id(value: str) -> str:
    try:
        check_run_id(value)
    except ExtendInputError as error:
        raise ValueError(str(error)) from None
    return value


RunId = Annotated[Filled, AfterValidator(_a_run_id)]
Minutes = Annotated[int, Field(ge=1, le=LONGEST_MINUTES)]


class StalePolicy(BaseModel):
    """What else decides whether a run is stale, and how far one sweep may go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_total_minutes: Minutes | None = Field(
        default=None,
        title="Limit since creation (minutes)",
        description="Also stale when the run was created longer ago than this, whatever its last update says.",
    )
    minutes_by_processor: dict[Filled, Minutes] = Field(
        default={},
        title="Limits by processor (minutes)",
        description='The limit of a classifier (extractor, ...) id: {"cl_invoices": 120}.',
    )
    only_processors: list[Filled] = Field(
        default=[], title="Only these processors", description="Classifier (extractor, ...) ids to keep to."
    )
    except_processors: list[Filled] = Field(
        default=[],
        title="Never these processors",
        description="Classifier (extractor, ...) ids whose runs are never touched, whatever else is said.",
    )
    except_runs: list[RunId] = Field(
        default=[], title="Never these runs", description="Ids of single runs that are never touched."
    )
    source: Filled | None = Field(
        default=None, title="Source", description="Only runs that this source created, such as API or WORKFLOW_RUN."
    )
    batch_id: Filled | None = Field(default=None, title="Batch", description="Only runs of this batch, such as bpr_...")
    file_name_contains: Filled | None = Field(
        default=None, title="File name contains", description="Only runs whose file name contains this."
    )
    hold_key: Filled = Field(
        default="prefect_hold",
        title="Hold key",
        description="A run whose metadata has this key set to something true is never touched. Case, hyphens and "
        "underscores make no difference; a dot may lead into a nested object.",
    )
    max_cancellations: int = Field(
        default=500,
        ge=1,
        title="Most cancellations in one sweep",
        description="The oldest are cancelled, up to this number; the others are left for the next sweep.",
    )
    refuse_above: int = Field(
        default=5000,
        ge=0,
        title="Refuse above",
        description="More stale runs than this is a mistake or an outage: cancel nothing and fail as Refused.",
    )
    outage_guard: bool = Field(
        default=True,
        title="Outage guard",
        description=f"{OUTAGE_FROM} or more stale or lately cancelled, by anybody, and nothing finished within the "
        "limit means that Extend is down: cancel nothing and fail as Refused.",
    )
    learn_limits: bool = Field(
        default=True,
        title="Learn limits",
        description="A processor whose recent healthy runs took longer gets a longer limit, of four times "
        "the limit at most. Never a shorter one; limits by processor and since creation stay as they are.",
    )
    confirm_seconds: int = Field(
        default=60,
        ge=1,
        le=3600,
        title="Confirm within (seconds)",
        description="How long to wait for an accepted cancel to take before the run is called unconfirmed.",
    )
    resubmit: int = Field(
        default=0,
        ge=0,
        le=100,
        title="Submit again (times)",
        description="How often one document is submitted again after its run was cancelled. For classify, extract and "
        "split runs that were created over the API.",
    )
    max_sweep_minutes: Minutes = Field(
        default=30,
        title="Longest sweep (minutes)",
        description="After this no further cancel is sent; what was not reached is left for the next sweep.",
    )

    @property
    def narrows_listing(self) -> bool:
        """Whether Extend is asked for some of the runs in progress only."""
        return any((self.source, self.batch_id, self.file_name_contains))

    def without_filters(self) -> StalePolicy:
        """The same rules for all runs in progress."""
        return self.model_copy(update={"source": None, "batch_id": None, "file_name_contains": None})


DEFAULT_POLICY = StalePolicy()
"""The policy where none is named."""
