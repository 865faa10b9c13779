"""A run: the JSON from the API, and the fields that decisions use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from prefect_extend_ai._json import parse_json
from prefect_extend_ai.errors import ExtendInputError, ExtendUnexpectedResponseError
from prefect_extend_ai.runs.kinds import CANCELLED, FAILED, PROCESSED, PROCESSING, KindName, RunKind
from prefect_extend_ai.runs.moments import Moment

__all__ = [
    "CANCELLED",
    "FAILED",
    "LONGEST_ID",
    "PROCESSED",
    "PROCESSING",
    "KindName",
    "Run",
    "RunKind",
    "check_run_id",
    "parse_timestamp",
]

LONGEST_ID = 255
"""Characters; the limit of ids in the vendor's versioning policy."""
ABORTED = frozenset({"ABORTED", "REQUEST_ABORTED"})
"""Failure reasons of an aborted run (vendor's page on cancelling; the second is for verify runs)."""


def check_run_id(run_id: str) -> None:
    """Raise ExtendInputError for an invalid id, and for one that would not stay a single path segment."""
    problem = _id_problem(run_id)
    if problem:
        shown = repr(run_id) if len(repr(run_id)) <= 60 else f"{repr(run_id)[:60]}…"
        raise ExtendInputError(f"{shown} is not a run id: it {problem}")


def _id_problem(run_id: object) -> str | None:
    if not isinstance(run_id, str) or not run_id:
        return "is empty or not text"
    if len(run_id) > LONGEST_ID:
        return f"has more than {LONGEST_ID} characters"
    if not run_id.isprintable() or any(mark.isspace() for mark in run_id):
        return "has a space, a line break or another character that cannot be seen"
    if any(mark in run_id for mark in r"/\?#%"):
        return r"has one of / \ ? # % in it"
    if run_id == "." or ".." in run_id:
        return "has only dots, or two together"
    return None


_KEPT = frozenset(
    {"id", "object", "status", "createdAt", "updatedAt", "failureReason", "dashboardUrl", "metadata", "file", "files"}
    | {"batchId", "source", "sourceId", "reviewed", "edited"}
)
"""The fields of a run that are read after the decision about it."""


def parse_timestamp(value: object) -> datetime | None:
    """An RFC 3339 timestamp, with or without fractions of a second; None for anything else.

    None too for a time without an offset, because no run is cancelled on a guess, and for one outside
    the range of `datetime` in UTC.
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

    Unknown fields, statuses and failure reasons are kept unchanged. The properties are what decisions use; everything
    else is in `raw`.

    Attributes:
        kind: the kind, by the collection that it was read from.
        raw: the run's JSON, parsed.
        text: the run's JSON, byte for byte for a single read (`1.50` stays `1.50`).
        read_at: when this was read, by the earlier of Extend's clock (the response's `Date` header) and the local
            one; None without a `Date`. Ages are measured at this time, so that one wrong clock cancels nothing.
        request_id: the response's `x-extend-request-id`, for Extend's support; None for an item of a listing.
        date: Extend's clock then. The run's times come from it and cannot lie in its future.
        asked_at: when the request that read it left: it shows no later state. None where unknown.
    """

    kind: RunKind
    raw: Mapping[str, Any]
    text: str
    read_at: datetime | None = None
    request_id: str | None = None
    date: datetime | None = None
    asked_at: Moment | None = field(default=None, compare=False)

    @classmethod
    def from_text(
        cls,
        kind: RunKind | str,
        text: str,
        read_at: datetime | None = None,
        request_id: str | None = None,
        date: datetime | None = None,
    ) -> Run:
        """Parse one run. Raises ExtendUnexpectedResponseError for text that is not a JSON object with an id."""
        try:
            text = text.removeprefix("\ufeff")  # the byte-order mark is not part of the object
            raw = parse_json(text)
        except ValueError as error:
            raise ExtendUnexpectedResponseError(f"not JSON ({type(error).__name__})", body=text) from None
        return cls._checked(RunKind(kind), raw, text, read_at, request_id=request_id, date=date)

    @classmethod
    def from_item(
        cls, kind: RunKind | str, raw: Any, read_at: datetime | None = None, date: datetime | None = None
    ) -> Run:
        """Take one item of a listing. Raises ExtendUnexpectedResponseError for anything but an object with an id."""
        try:
            text = json.dumps(raw)
        except RecursionError:
            raise ExtendUnexpectedResponseError("JSON that is nested too deeply") from None
        return cls._checked(RunKind(kind), raw, text, read_at, date=date)

    @classmethod
    def _checked(
        cls,
        kind: RunKind,
        raw: Any,
        text: str,
        read_at: datetime | None,
        *,
        request_id: str | None = None,
        date: datetime | None,
    ) -> Run:
        if not isinstance(raw, dict):
            raise ExtendUnexpectedResponseError(f"a JSON {type(raw).__name__}, not a run object", body=text)
        if not isinstance(raw.get("id"), str) or not raw["id"]:
            raise ExtendUnexpectedResponseError("a JSON object without a run id", body=text)
        # An unknown name may be tomorrow's; the name of another kind is another kind's run.
        named = next((other.object_name for other in RunKind if other.object_name == raw.get("object")), None)
        if named not in (None, kind.object_name):
            raise ExtendUnexpectedResponseError(f"the object is {named}, not {kind.object_name}", body=text)
        return cls(kind, raw, text, read_at, request_id, date)

    def __repr__(self) -> str:
        # Without the JSON: reprs end up in logs, and the JSON holds document data.
        return f"Run({self.kind.value} {self.id!r} {self.status!r})"

    def without_document(self) -> Run:
        """The run with only the fields that decisions and pages use; a terminal run keeps its complete `text`.

        A parsed object takes ten times the memory of its text. Dropped fields are None in `raw`.
        """
        kept = _KEPT | ({self.kind.processor} if self.kind.processor else set())
        raw = {name: value if name in kept else None for name, value in self.raw.items()}
        return replace(self, raw=raw, text=self.text if self.is_terminal else "")

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
        """Whether the run has ended. An unknown status is not an end."""
        return self.status in self.kind.terminal

    @property
    def created_at(self) -> datetime | None:
        """When the run was created; None where the timestamp cannot be read for certain."""
        return parse_timestamp(self.raw.get("createdAt"))

    @property
    def updated_at(self) -> datetime | None:
        """When the run last changed; None where the timestamp cannot be read for certain."""
        return parse_timestamp(self.raw.get("updatedAt"))

    @property
    def age_minutes(self) -> float | None:
        """Minutes from the last change until it was read, by the earlier of both clocks; None where unknown."""
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
        """What the creator of the run attached to it; empty without any."""
        found = self.raw.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def is_readable(self) -> bool:
        """Whether metadata and processor have the documented types: holds and exceptions are read from them."""
        metadata = self.raw.get("metadata")
        return isinstance(metadata, dict | None) and isinstance(self._processor, dict | str | None)

    @property
    def file_names(self) -> list[str]:
        """The names of the run's files: one for most kinds, any number for a workflow, none where hidden."""
        listed = self.raw.get("files")
        files = listed if isinstance(listed, list) else [self.raw.get("file")]
        names = [file.get("name") for file in files if isinstance(file, dict)]
        return [name for name in names if isinstance(name, str)]

    @property
    def failure_reason(self) -> str | None:
        """Why a FAILED run failed, unknown values included."""
        return self._text("failureReason")

    @property
    def was_aborted(self) -> bool:
        """Whether the run failed because its user aborted it: another sign that a cancel took effect."""
        return self.status == FAILED and self.failure_reason in ABORTED

    @property
    def was_reviewed(self) -> bool:
        """Whether a person reviewed or edited it, so that its last change may be theirs."""
        return any(self.raw.get(field) for field in ("reviewed", "edited", "reviewedAt", "reviewedByUser"))

    @property
    def dashboard_url(self) -> str | None:
        """The address of the run in Extend's dashboard."""
        return self._text("dashboardUrl")

    @property
    def _processor(self) -> Any:
        return self.raw.get(self.kind.processor) if self.kind.processor else None

    def _text(self, field: str) -> str | None:
        value = self.raw.get(field)
        return value if isinstance(value, str) else None
