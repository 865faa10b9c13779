"""The kinds of run that Extend can cancel, and a table row for each."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from prefect_extend_ai.errors import ExtendInputError

__all__ = ["CANCELLED", "CANCELLING", "FAILED", "PROCESSED", "PROCESSING", "KindChoice", "KindName", "RunKind"]

PROCESSING = "PROCESSING"
CANCELLED = "CANCELLED"
CANCELLING = "CANCELLING"
FAILED = "FAILED"
PROCESSED = "PROCESSED"

KindName = Annotated[
    Literal["classify", "extract", "split", "parse", "verify", "workflow"],
    # RunKind's message for another kind says more than pydantic's.
    BeforeValidator(lambda name: RunKind(name).value),
]
"""The six kinds by name, as flows and tasks take them; the Prefect UI shows them as a drop-down."""

KindChoice = Annotated[
    Literal["classify", "extract", "split", "parse", "verify", "workflow"] | None,
    BeforeValidator(lambda name: RunKind(name).value if name else None),
    # `X | None`, and a list of types, become two tabs in the Prefect UI. So its drop-down has an empty text for none,
    # and that is its default too, for the form would send null, which is not text.
    WithJsonSchema({"type": "string", "enum": ["", "classify", "extract", "split", "parse", "verify", "workflow"]}),
    Field(json_schema_extra={"default": ""}),
]
"""The same, or none: then the kind is what the ids look like."""


class RunKind(enum.StrEnum):
    """A kind of run that Extend can cancel. `RunKind("classify")` and `"classify"` are equal.

    The differences between the kinds are a table, taken from the vendor's SDK 1.20.0. Edit, form-detection and batch
    runs have no cancel endpoint there; for them, as for any other name, `RunKind(...)` raises ExtendInputError.
    """

    CLASSIFY = "classify"
    EXTRACT = "extract"
    SPLIT = "split"
    PARSE = "parse"
    VERIFY = "verify"
    WORKFLOW = "workflow"

    @classmethod
    def _missing_(cls, value: object) -> RunKind:
        known = ", ".join(kind.value for kind in cls)
        raise ExtendInputError(f"{value!r} is not a kind of run that Extend can cancel: use one of {known}")

    @property
    def path(self) -> str:
        """The collection's path, `/classify_runs`."""
        return f"/{self.value}_runs"

    @property
    def object_name(self) -> str:
        """The value of the `object` field, `classify_run`."""
        return f"{self.value}_run"

    @property
    def id_prefix(self) -> str:
        """The usual prefix of an id. Prefixes may change without a new API version (vendor's versioning policy)."""
        return _ROWS[self].id_prefix

    @property
    def processor(self) -> str | None:
        """The field that holds the run's classifier, extractor, ...; None where a kind has none."""
        return _ROWS[self].processor

    @property
    def cancellable(self) -> frozenset[str]:
        """Statuses in which a run can be cancelled, as the vendor documents."""
        return _ROWS[self].cancellable

    @property
    def terminal(self) -> frozenset[str]:
        """Statuses after which a run never changes. Any other status, an unknown one included, is not terminal."""
        return _ROWS[self].terminal

    @property
    def worked(self) -> tuple[str, ...]:
        """Statuses that show that Extend processed a run completely."""
        return _ROWS[self].worked

    @property
    def stopped(self) -> tuple[str, ...]:
        """Statuses in which a cancelled run may be listed."""
        return _ROWS[self].stopped

    @property
    def sortable(self) -> bool:
        """Whether the listing supports `sortBy` and `sortDir`."""
        return _ROWS[self].sortable

    @property
    def filters(self) -> frozenset[str]:
        """The listing filters of `StalePolicy` that this kind's listing supports."""
        return _ROWS[self].filters

    @property
    def dated(self) -> bool:
        """Whether a single read has `createdAt` and `updatedAt`; an item of a listing always has."""
        return _ROWS[self].dated

    @property
    def shows_metadata(self) -> bool:
        """Whether an item of a listing has the run's metadata; a single read always has."""
        return _ROWS[self].shows_metadata


@dataclass(frozen=True, slots=True)
class _Row:
    id_prefix: str
    processor: str | None = None
    cancellable: frozenset[str] = frozenset({PROCESSING})
    terminal: frozenset[str] = frozenset({PROCESSED, FAILED, CANCELLED})
    worked: tuple[str, ...] = (PROCESSED,)
    stopped: tuple[str, ...] = (CANCELLED, FAILED, CANCELLING)
    sortable: bool = True
    filters: frozenset[str] = frozenset({"source", "batch_id", "file_name_contains"})
    dated: bool = True
    shows_metadata: bool = True


_ROWS = {
    RunKind.CLASSIFY: _Row("clr_", "classifier"),
    RunKind.EXTRACT: _Row("exr_", "extractor"),
    RunKind.SPLIT: _Row("splr_", "splitter"),
    RunKind.PARSE: _Row("pr_", sortable=False, dated=False),
    RunKind.VERIFY: _Row("vr_", filters=frozenset({"source", "file_name_contains"})),
    RunKind.WORKFLOW: _Row(
        "workflow_run_",
        "workflow",
        cancellable=frozenset({"PENDING", PROCESSING}),
        # NEEDS_REVIEW is not terminal: a review changes the run again.
        terminal=frozenset({PROCESSED, FAILED, CANCELLED, "REJECTED"}),
        worked=(PROCESSED, "NEEDS_REVIEW"),
        # FAILED is missing: a listed item has no failure reason, so an aborted run cannot be recognised.
        stopped=(CANCELLED, CANCELLING),
        filters=frozenset({"batch_id", "file_name_contains"}),
        dated=False,
        shows_metadata=False,
    ),
}
