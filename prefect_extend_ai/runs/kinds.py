"""The kinds of run that Extend can cancel, and a row of facts for each."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator

from prefect_extend_ai.errors import ExtendInputError

__all__ = ["CANCELLED", "FAILED", "PROCESSED", "PROCESSING", "KindName", "RunKind"]

PROCESSING = "PROCESSING"
CANCELLED = "CANCELLED"
FAILED = "FAILED"
PROCESSED = "PROCESSED"

KindName = Annotated[
    Literal["classify", "extract", "split", "parse", "verify", "workflow"],
    # Another kind is refused in RunKind's words: pydantic's own do not say why it is not among these.
    BeforeValidator(lambda name: RunKind(name).value),
]
"""The six kinds by name, as flows and tasks take them; the Prefect UI makes a drop-down of it."""


class RunKind(enum.StrEnum):
    """A kind of run that Extend can cancel. `RunKind("classify")` and `"classify"` are equal.

    What sets the kinds apart is a row of facts for each, read off the vendor's SDK 1.20.0. Edit, form-detection and
    batch runs have no cancel endpoint there; for them, as for any other name, `RunKind(...)` raises ExtendInputError.
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
        raise ExtendInputError(f"{value!r} is no kind of run that Extend can cancel: take one of {known}")

    @property
    def path(self) -> str:
        """The collection's path, `/classify_runs`."""
        return f"/{self.value}_runs"

    @property
    def object_name(self) -> str:
        """What the API puts into `object`, `classify_run`."""
        return f"{self.value}_run"

    @property
    def id_prefix(self) -> str:
        """The usual start of an id. Prefixes may change without a new API version (vendor's versioning policy)."""
        return _ROWS[self].id_prefix

    @property
    def processor(self) -> str | None:
        """The field that holds the run's classifier, extractor, ...; None where a kind has none."""
        return _ROWS[self].processor

    @property
    def cancellable(self) -> frozenset[str]:
        """Statuses in which the vendor documents a cancel to be accepted."""
        return _ROWS[self].cancellable

    @property
    def terminal(self) -> frozenset[str]:
        """Statuses after which a run never changes. A status not listed, an unknown one included, is no end."""
        return _ROWS[self].terminal

    @property
    def worked(self) -> tuple[str, ...]:
        """Statuses that only a run takes on which Extend has worked to the end: signs that it works."""
        return _ROWS[self].worked

    @property
    def stopped(self) -> tuple[str, ...]:
        """Statuses in which a cancelled run may be listed."""
        return _ROWS[self].stopped

    @property
    def sortable(self) -> bool:
        """Whether the listing takes `sortBy` and `sortDir`."""
        return _ROWS[self].sortable

    @property
    def filters(self) -> frozenset[str]:
        """The listing filters of `StalePolicy` that this kind's listing knows."""
        return _ROWS[self].filters

    @property
    def dated(self) -> bool:
        """Whether a single read carries `createdAt` and `updatedAt`; a listed summary always does."""
        return _ROWS[self].dated


@dataclass(frozen=True, slots=True)
class _Row:
    id_prefix: str
    processor: str | None = None
    cancellable: frozenset[str] = frozenset({PROCESSING})
    terminal: frozenset[str] = frozenset({PROCESSED, FAILED, CANCELLED})
    worked: tuple[str, ...] = (PROCESSED,)
    stopped: tuple[str, ...] = (CANCELLED, FAILED)
    sortable: bool = True
    filters: frozenset[str] = frozenset({"source", "batch_id", "file_name_contains"})
    dated: bool = True


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
        # NEEDS_REVIEW is no end: a person's review moves the run on.
        terminal=frozenset({PROCESSED, FAILED, CANCELLED, "REJECTED"}),
        worked=(PROCESSED, "NEEDS_REVIEW"),
        # Its summary lacks the reason of a failure, which is what would tell an aborted run.
        stopped=(CANCELLED, "CANCELLING"),
        filters=frozenset({"batch_id", "file_name_contains"}),
        dated=False,
    ),
}
