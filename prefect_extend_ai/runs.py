"""What Extend calls a run: its kinds, its statuses, and the JSON the API sent."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from prefect_extend_ai.errors import ExtendInputError, ExtendOddAnswerError
from prefect_extend_ai.moments import Moment
from prefect_extend_ai.parsing import parse_json

__all__ = [
    "CANCELLED",
    "FAILED",
    "PROCESSED",
    "PROCESSING",
    "KindName",
    "Run",
    "RunKind",
    "parse_timestamp",
]

PROCESSING = "PROCESSING"
CANCELLED = "CANCELLED"
FAILED = "FAILED"
PROCESSED = "PROCESSED"
ABORTED = frozenset({"ABORTED", "REQUEST_ABORTED"})
"""Failure reasons of a run that its user aborted (vendor's page on cancelling; the second is a verify run's)."""

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
        """Statuses that a run takes once Extend has worked on it to the end, cancelled ones aside."""
        return _ROWS[self].worked

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
    worked: tuple[str, ...] = (PROCESSED, FAILED)
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
        worked=(PROCESSED, "NEEDS_REVIEW", FAILED, "REJECTED"),
        filters=frozenset({"batch_id", "file_name_contains"}),
        dated=False,
    ),
}


def parse_timestamp(value: object) -> datetime | None:
    """An RFC 3339 instant as the API writes it, with or without a fraction; None for anything else.

    A time without an offset is None too: it cannot be placed for certain, and nobody's run is
    cancelled on a guess. So is one that lies outside what UTC can say.
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """One run as the API sent it.

    Unknown fields, statuses and failure reasons stay as they came, each on its own object. The properties
    are what decisions need; everything else is in `raw`.

    Attributes:
        kind: which collection the run was read from.
        raw: the run's JSON, parsed.
        text: the run's JSON, to the letter for a run read by itself (`1.50` stays `1.50`).
        read_at: the API's own clock when this was read (the answer's `Date` header), None where the
            answer had none. Ages are measured by it, so that a wrong clock here cancels nothing.
        request_id: the answer's `x-extend-request-id`, for Extend's support; None for an item of a listing.
        asked_at: when the request that read it left: it tells of no later state. None where nobody says.
    """

    kind: RunKind
    raw: Mapping[str, Any]
    text: str
    read_at: datetime | None = None
    request_id: str | None = None
    asked_at: Moment | None = field(default=None, compare=False)

    @classmethod
    def from_text(
        cls, kind: RunKind | str, text: str, read_at: datetime | None = None, request_id: str | None = None
    ) -> Run:
        """Parse one run. Raises ExtendOddAnswerError for text that is not a JSON object with an id."""
        try:
            text = text.removeprefix("\ufeff")  # a byte-order mark is no part of the object
            raw = parse_json(text)
        except ValueError as error:
            raise ExtendOddAnswerError(f"not JSON ({type(error).__name__})", body=text) from None
        return cls._checked(RunKind(kind), raw, text, read_at, request_id)

    @classmethod
    def from_item(cls, kind: RunKind | str, raw: Any, read_at: datetime | None = None) -> Run:
        """Take one item of a listing. Raises ExtendOddAnswerError for anything but an object with an id."""
        try:
            text = json.dumps(raw)
        except RecursionError:
            raise ExtendOddAnswerError("JSON that nests too deep") from None
        return cls._checked(RunKind(kind), raw, text, read_at)

    @classmethod
    def _checked(
        cls, kind: RunKind, raw: Any, text: str, read_at: datetime | None, request_id: str | None = None
    ) -> Run:
        if not isinstance(raw, dict):
            raise ExtendOddAnswerError(f"a JSON {type(raw).__name__}, not a run object", body=text)
        if not isinstance(raw.get("id"), str) or not raw["id"]:
            raise ExtendOddAnswerError("a JSON object without a run id", body=text)
        return cls(kind, raw, text, read_at, request_id)

    def __repr__(self) -> str:
        # Not the JSON: reprs end up in logs, and the JSON is people's documents.
        return f"Run({self.kind.value} {self.id!r} {self.status!r})"

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.raw["id"])

    @property
    def status(self) -> str | None:
        """The status as sent, unknown values included; None where the API sent none."""
        return self._text("status")

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended for good. An unknown status is not an end."""
        return self.status in self.kind.terminal

    @property
    def created_at(self) -> datetime | None:
        """When the run was created; None where that cannot be read for certain."""
        return parse_timestamp(self.raw.get("createdAt"))

    @property
    def updated_at(self) -> datetime | None:
        """When the run last changed; None where that cannot be read for certain."""
        return parse_timestamp(self.raw.get("updatedAt"))

    @property
    def age_minutes(self) -> float | None:
        """Minutes from the last change until it was read, by the API's clock; None where either is unknown."""
        if self.read_at is None or self.updated_at is None:
            return None
        return (self.read_at - self.updated_at).total_seconds() / 60

    @property
    def processor_id(self) -> str | None:
        """The id of the run's classifier, extractor, splitter or workflow; None for an inline config."""
        processor = self._processor
        found = processor.get("id") if isinstance(processor, dict) else processor
        return found if isinstance(found, str) else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the run's creator attached to it; empty where there is none."""
        found = self.raw.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def is_readable(self) -> bool:
        """Whether metadata and processor are of the kind the API documents: holds and exceptions stand in them."""
        metadata = self.raw.get("metadata")
        return isinstance(metadata, dict | None) and isinstance(self._processor, dict | str | None)

    @property
    def file_names(self) -> list[str]:
        """The names of the run's files: one for most kinds, any number for a workflow, none where hidden."""
        return self._of_files("name")

    @property
    def file_ids(self) -> list[str]:
        """The ids of the run's files; the vendor's listing by file name matches these too for some kinds."""
        return self._of_files("id")

    @property
    def failure_reason(self) -> str | None:
        """Why a FAILED run failed, unknown values included."""
        return self._text("failureReason")

    @property
    def was_aborted(self) -> bool:
        """Whether the run failed because its user aborted it: another way for the API to say that a cancel took."""
        return self.status == FAILED and self.failure_reason in ABORTED

    @property
    def dashboard_url(self) -> str | None:
        """Where people look at the run in Extend's dashboard."""
        return self._text("dashboardUrl")

    @property
    def _processor(self) -> Any:
        return self.raw.get(self.kind.processor) if self.kind.processor else None

    def _of_files(self, field: str) -> list[str]:
        listed = self.raw.get("files")
        files = listed if isinstance(listed, list) else [self.raw.get("file")]
        found = [file.get(field) for file in files if isinstance(file, dict)]
        return [value for value in found if isinstance(value, str)]

    def _text(self, field: str) -> str | None:
        value = self.raw.get(field)
        return value if isinstance(value, str) else None
