"""Whether a cancelled run's document is submitted again, with which request, and what came of it: pure decisions.

A run object does not say who created it. So which runs were created over the API is known from a listing before the
cancel, and is part of the plan that the cancel intent carries.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prefect_extend_ai.errors import (
    ExtendAccountError,
    ExtendError,
    ExtendInputError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendRefusedError,
    SharedLimitError,
)
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.plans import Request, ResubmitPlan
from prefect_extend_ai.sweep.report import Outcome, PendingCancel

__all__ = [
    "ATTEMPT",
    "FIRST_RUN",
    "LARGEST_METADATA",
    "LOOK_FOR",
    "NOT_OVER_THE_API",
    "RESUBMITTABLE",
    "RESUBMIT_OF",
    "Place",
    "Sent",
    "can_be_ours",
    "check_resubmit",
    "config_digest",
    "place_of",
    "plan_for",
    "request_for",
    "what_was_sent",
]

RESUBMIT_OF = "prefect_extend_resubmit_of"
FIRST_RUN = "prefect_extend_first_run"
ATTEMPT = "prefect_extend_attempt"
"""Metadata of a run that was submitted again: the run it replaces, the document's first run, and its number."""

RESUBMITTABLE = frozenset({RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.SPLIT})
"""Kinds whose run object holds what a request needs (vendor's SDK 1.20.0)."""

LARGEST_METADATA = 10_000
"""Bytes of metadata as compact JSON; the vendor's page says 10 KB."""

MOST_ATTEMPTS = 1_000_000
"""A higher number in somebody's metadata does not count attempts."""

LOOK_FOR = timedelta(hours=24)
"""How long sweeps look for a run whose creation was not answered."""

CLOCK_GRAIN = timedelta(minutes=2)
"""How far times of Extend and of this machine may be apart after both were brought onto one clock."""

SWEEP_LASTS = timedelta(minutes=45)
"""A cancel by a sweep that was interrupted took effect by then after its intent was logged."""

NOT_OVER_THE_API = "not created over the API: a batch, a workflow, an evaluation or the studio made it"
NO_NUMBER = f"its metadata says that it was submitted again, but {ATTEMPT} is not a number of attempts"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands among the runs of its document.

    Attributes:
        first_run: the document's first run.
        attempt: how often it had been submitted again when this run was created: 0 for the first run.
        replaces: the run before it; None for the first.
    """

    first_run: str
    attempt: int = 0
    replaces: str | None = None


def place_of(run_id: str, metadata: Mapping[str, Any]) -> Place | None:
    """Where a run stands; None where its metadata says that it was submitted again, and not how often."""
    if RESUBMIT_OF not in metadata and ATTEMPT not in metadata:
        return Place(run_id)
    attempt, first, replaces = metadata.get(ATTEMPT), metadata.get(FIRST_RUN), metadata.get(RESUBMIT_OF)
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 0 < attempt <= MOST_ATTEMPTS:
        return None
    replaces = replaces if isinstance(replaces, str) and replaces else None
    return Place(first if isinstance(first, str) and first else replaces or run_id, attempt, replaces)


def check_resubmit(kind: RunKind, *, resubmit: bool) -> None:
    """Raise ExtendInputError where runs of a kind cannot be submitted again."""
    if resubmit and kind not in RESUBMITTABLE:
        why = "its secrets cannot be read back" if kind is RunKind.WORKFLOW else "its request cannot be read back"
        can = ", ".join(each.value for each in RunKind if each in RESUBMITTABLE)
        raise ExtendInputError(f"a {kind} run cannot be submitted again, because {why}: resubmit is for {can} runs")


def plan_for(place: Place | None, run_id: str, *, limit: int | None, why_not: str | None) -> ResubmitPlan:
    """The plan for a run that is about to be cancelled.

    Args:
        place: where the run stands among those of its document; None where that cannot be read.
        run_id: the run.
        limit: how often a document is submitted again; None without a limit, for runs that somebody named.
        why_not: why the run cannot be submitted again, where that is known already.
    """
    found = place or Place(run_id)
    return ResubmitPlan(
        first_run=found.first_run,
        replaces=found.replaces,
        attempt=found.attempt + 1,
        gives_up=place is not None and limit is not None and found.attempt >= limit,
        why_not=NO_NUMBER if place is None else why_not,
    )


def can_be_ours(run: Run, plan: ResubmitPlan, before: PendingCancel, now: datetime) -> bool:
    """Whether a cancel of an earlier sweep can be why a run is cancelled, for all that is known of that sweep.

    Args:
        run: the run as just read.
        plan: its plan.
        before: how the earlier sweep left the run.
        now: the time, by the clock of this machine.
    """
    if before.outcome is not None:
        return before.outcome is Outcome.UNCONFIRMED
    if run.updated_at is None or run.date is None or plan.planned_at is None or run.updated_at == plan.updated_at:
        return True  # its times say nothing: where a cancel does not move `updatedAt`, it is the one that was listed
    planned_at = plan.planned_at + (run.date - now)
    return planned_at - CLOCK_GRAIN <= run.updated_at <= planned_at + SWEEP_LASTS


def request_for(run: Run, plan: ResubmitPlan, now: datetime) -> Request | str:
    """The request that submits a cancelled run's document again; why there can be none, in words.

    Args:
        run: the cancelled run, whole, as just read.
        plan: its plan.
        now: the time, by the clock of this machine.
    """
    try:
        raw = json.loads(run.text)
    except (ValueError, RecursionError):
        return "its JSON cannot be taken over as it is"
    file, files = raw.get("file"), raw.get("files")
    if isinstance(files, list) and files:
        return "it has several files"
    if not isinstance(file, dict) or not isinstance(file.get("id"), str):
        return "it has no file that could be named"
    how = _processor_of(run.kind, raw)
    if how is None:
        return "neither its processor nor its configuration can be read"
    if place_of(run.id, run.metadata) != Place(plan.first_run, plan.attempt - 1, plan.replaces):
        return "its metadata changed since it was listed: which submission it is is not known"
    given = raw.get("metadata") or {}
    if not isinstance(given, dict):
        return "its metadata is not an object"
    metadata = {**given, RESUBMIT_OF: run.id, FIRST_RUN: plan.first_run, ATTEMPT: plan.attempt}
    try:
        size = len(json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except RecursionError:
        return "its metadata is nested too deeply"
    if size > LARGEST_METADATA:
        return f"its metadata would have {size:,} bytes, and Extend takes 10 KB"
    body = {"file": {"id": file["id"]}, **how, "metadata": metadata}
    ahead = run.date - now if run.date is not None else timedelta()
    since = (plan.planned_at or now) + ahead - CLOCK_GRAIN
    return Request(run.id, plan, body, config_digest(raw), since)


def _processor_of(kind: RunKind, raw: Mapping[str, Any]) -> dict[str, Any] | None:
    name = str(kind.processor)
    processor, version, config = raw.get(name), raw.get(f"{name}Version"), raw.get("config")
    if isinstance(processor, dict) and isinstance(processor.get("id"), str):
        number = version.get("version") if isinstance(version, dict) else None
        return {name: {"id": processor["id"]} | ({"version": number} if isinstance(number, str) else {})}
    if processor is not None or not isinstance(config, dict) or not config:
        return None
    # In a run, a value that is null was not given.
    return {"config": _without_nulls(config)}


def config_digest(raw: Mapping[str, Any]) -> str | None:
    """What two runs with the same configuration have in common; None where a run shows none."""
    config = raw.get("config")
    if not isinstance(config, dict):
        return None
    try:
        text = json.dumps(_without_nulls(config), sort_keys=True, separators=(",", ":"))
    except (RecursionError, ValueError):
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _without_nulls(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if value is not None}


class Sent(enum.Enum):
    """What an error says of the create that met it."""

    NOT_SENT = enum.auto()
    """It never left, or was answered 429: nothing was created."""
    REFUSED = enum.auto()
    """Extend refuses it."""
    LOST = enum.auto()
    """No response, a 5xx or an unexpected one: a run may have been created."""


def what_was_sent(error: ExtendError) -> Sent:
    """What an error says of the create that met it."""
    if isinstance(error, ExtendNotSentError | ExtendRateLimitError | SharedLimitError | ExtendInputError):
        return Sent.NOT_SENT
    return (
        Sent.REFUSED if isinstance(error, ExtendRefusedError | ExtendNotFoundError | ExtendAccountError) else Sent.LOST
    )
