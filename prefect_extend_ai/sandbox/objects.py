"""The JSON of runs, complete and as a summary: the fields of the vendor's SDK 1.20.0, for all six kinds."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timedelta
from typing import Any

from prefect_extend_ai.runs import FAILED, PROCESSED, RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.record import Record, State

__all__ = ["CONFIGS", "file_id", "full", "summary", "timestamp", "to_text"]

# Python's JSON writes 1.5 for 1.50; the API may write either, and a client that keeps the text must keep it.
# The mark is new in each process, so that no document can carry it.
_MARK = uuid.uuid4().hex
_NUMBER = re.compile(rf'"{_MARK}([0-9.]+)"')

_TYPES = ("invoice", "purchase_order", "bill_of_lading", "bank_statement", "payslip", "other")
_CLASSES = [
    {"id": f"class_{name}", "type": name, "description": f"A document that is best described as {name}."}
    for name in _TYPES
]
_PARSE_CONFIG = {"target": "markdown", "chunkingStrategy": {"type": "page"}, "engine": "parse_performance"}
CONFIGS: dict[RunKind, dict[str, Any]] = {
    RunKind.CLASSIFY: {
        "baseProcessor": "classification_standard",
        "baseVersion": "2.1.0",
        "classifications": _CLASSES,
        "classificationRules": None,
        "advancedOptions": {"context": "default", "advancedMultimodalEnabled": False},
        "parseConfig": _PARSE_CONFIG,
    },
    RunKind.EXTRACT: {
        "baseProcessor": "extraction_performance",
        "baseVersion": "4.6.0",
        "schema": {"type": "object", "properties": {"total": {"type": ["number", "null"]}}},
        "parseConfig": _PARSE_CONFIG,
    },
    RunKind.SPLIT: {
        "baseProcessor": "splitting_performance",
        "baseVersion": "1.4.0",
        "splitClassifications": _CLASSES,
        "parseConfig": _PARSE_CONFIG,
    },
    RunKind.PARSE: _PARSE_CONFIG,
    RunKind.VERIFY: {"engine": "verify_light", "engineVersion": "0.1.0", "advancedOptions": {"requireParsing": True}},
}
_RISKS = ("LOW", "MEDIUM", "HIGH")

_REVIEWABLE = (RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.SPLIT)
_NOT_LISTED: dict[RunKind, tuple[str, ...]] = {
    **dict.fromkeys(_REVIEWABLE, ("output", "initialOutput", "reviewedOutput", "config", "edits")),
    RunKind.PARSE: ("output", "outputUrl", "config"),
    RunKind.VERIFY: ("output",),
    RunKind.WORKFLOW: ("metadata", "failureReason", "failureMessage", "reviewed", "stepRuns"),
}
"""Fields that a summary does not have. A workflow run's summary has no metadata either."""


def timestamp(moment: datetime, behaviour: Behaviour) -> str:
    """A timestamp in the format of the API."""
    precision = "milliseconds" if behaviour.fractions else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def to_text(body: object) -> str:
    """JSON in the format of the API."""
    return _NUMBER.sub(r"\1", json.dumps(body, separators=(",", ":")))


def full(record: Record, state: State, behaviour: Behaviour) -> dict[str, Any]:
    """A run as a single read shows it. Parse and workflow runs have no timestamps there."""
    body = _common(record, state, behaviour)
    if record.kind.dated or behaviour.always_dated:
        body |= _dates(record, state, behaviour)
    return _finish(body, record, behaviour)


def summary(record: Record, state: State, behaviour: Behaviour) -> dict[str, Any]:
    """A run as a listing shows it."""
    body = _common(record, state, behaviour)
    output = body.get("output")
    for name in _NOT_LISTED[record.kind]:
        body.pop(name, None)
    if body["usage"]:
        body["usage"] = {name: body["usage"][name] for name in ("credits", "totalCredits")}
    if record.kind is RunKind.VERIFY:
        body["riskLevel"] = output["riskLevel"] if output else None
    listed = _finish(body | _dates(record, state, behaviour), record, behaviour)
    return {name: value for name, value in listed.items() if name not in _NOT_LISTED[record.kind]}


def _common(record: Record, state: State, behaviour: Behaviour) -> dict[str, Any]:
    kind, processed, failed = record.kind, state.status == PROCESSED, state.status == FAILED
    file = _file(record, behaviour)
    body: dict[str, Any] = {
        "object": kind.object_name,
        "id": record.id,
        "status": state.status,
        "failureReason": state.failure_reason if failed else None,
        "failureMessage": "The run ended early; nothing was billed." if failed else None,
        "metadata": record.metadata,
        "usage": _usage(record) if processed else None,
    }
    if kind is RunKind.WORKFLOW:
        return body | _workflow(record, state, behaviour) | {"files": [file] if file else []}
    body |= {"output": _output(record) if processed else None, "config": CONFIGS[kind], "file": file}
    if kind in _REVIEWABLE:
        body |= _reviewable(record, behaviour)
    else:
        body["metrics"] = {"processingTimeMs": 900 + record.number % 9000, "pageCount": _pages(record)}
        body["metrics"] = body["metrics"] if processed else None
    if kind is RunKind.EXTRACT:
        # Null except for a run that was edited in review, and for one of several files.
        body |= {"edits": None, "files": None}
    if kind is RunKind.PARSE:
        body |= {"batchId": record.batch_id, "outputUrl": None}
    if kind is RunKind.VERIFY:
        body |= {"source": record.source, "sourceId": record.source_id}
    return body


def _reviewable(record: Record, behaviour: Behaviour) -> dict[str, Any]:
    return {
        "initialOutput": None,
        "reviewedOutput": None,
        "reviewed": False,
        "edited": False,
        "parseRunId": f"pr_{record.id[-21:]}",
        "dashboardUrl": f"https://dashboard.extend.ai/runs/{record.id}",
        **_processor(record, behaviour),
    }


def _workflow(record: Record, state: State, behaviour: Behaviour) -> dict[str, Any]:
    started = None if state.status == "PENDING" else timestamp(record.created_at, behaviour)
    ended = timestamp(state.updated_at, behaviour) if state.status in record.kind.terminal else None
    return {
        "dashboardUrl": f"https://dashboard.extend.ai/workflow_runs/{record.id}",
        # The vendor's SDK has a workflow run's metadata always be an object.
        "metadata": record.metadata or {},
        "batchId": record.batch_id,
        "reviewed": state.status == "REJECTED",
        "reviewedByUser": None,
        "reviewedAt": None,
        "rejectionNote": "Not our document." if state.status == "REJECTED" else None,
        "initialRunAt": started,
        "startTime": started,
        "endTime": ended,
        "stepRuns": [],
        **_processor(record, behaviour),
    }


def _processor(record: Record, behaviour: Behaviour) -> dict[str, Any]:
    name = str(record.kind.processor)
    if record.processor is None:
        return {name: None, f"{name}Version": None}
    made = timestamp(record.created_at - timedelta(days=90), behaviour)
    of_kind = (
        {"name": None} if record.kind is RunKind.WORKFLOW else {"description": None, f"{name}Id": record.processor.id}
    )
    return {
        name: {
            "object": name,
            "id": record.processor.id,
            "name": record.processor.name,
            "createdAt": made,
            "updatedAt": made,
        },
        f"{name}Version": {
            "object": f"{name}_version",
            "id": record.processor.id.replace("_", "v_", 1),
            "version": record.version,
            **of_kind,
            "createdAt": made,
            "createdBy": {"type": "user", "email": "owner@example.com"},
        },
    }


def _output(record: Record) -> dict[str, Any]:
    pick, confidence = _TYPES[record.number % len(_TYPES)], _number(f"0.{80 + record.number % 19}0")
    risk = _RISKS[record.number % len(_RISKS)]
    match record.kind:
        case RunKind.CLASSIFY:
            why = {"type": "reasoning", "content": f"The first page reads like a typical {pick}."}
            return {"id": f"class_{pick}", "type": pick, "confidence": confidence, "insights": [why]}
        case RunKind.EXTRACT:
            total = _number(f"{record.number % 9000}.50")
            return {"value": {"total": total}, "metadata": {"total": {"logprobsConfidence": confidence}}}
        case RunKind.SPLIT:
            part = {"id": "split_1", "classificationId": f"class_{pick}", "type": pick, "identifier": "1"}
            span = {"startPage": 1, "endPage": _pages(record), "observation": "One document.", "fileId": "file_part"}
            return {"splits": [part | span]}
        case RunKind.PARSE:
            content = {"object": "chunk", "type": "page", "content": f"# {pick}", "blocks": []}
            return {"chunks": [content | {"metadata": {"pageRange": {"start": 1, "end": 1}}}]}
        case _:
            return {"riskLevel": risk, "summary": "Nothing was found that speaks against it.", "signals": []}


def _usage(record: Record) -> dict[str, Any]:
    amount = _number(f"{1 + record.number % 4}.50")
    entry = {"object": record.kind.object_name, "id": record.id, "credits": amount, "charges": []}
    return {"credits": amount, "totalCredits": amount, "breakdown": [entry]}


def _file(record: Record, behaviour: Behaviour) -> dict[str, Any] | None:
    if record.file_name is None:
        return None
    made = timestamp(record.created_at, behaviour)
    return {
        "object": "file",
        "id": file_id(record),
        "name": record.file_name,
        "type": "PDF",
        "parentFileId": None,
        "metadata": {"pageCount": _pages(record)},
        "createdAt": made,
        "updatedAt": made,
    }


def file_id(record: Record) -> str:
    """The id of a run's document."""
    return record.file_id or f"file_{record.id[-21:]}"


def _pages(record: Record) -> int:
    return 1 + record.number % 40


def _dates(record: Record, state: State, behaviour: Behaviour) -> dict[str, str]:
    return {
        "createdAt": timestamp(record.created_at, behaviour),
        "updatedAt": timestamp(state.updated_at, behaviour),
    }


def _number(literal: str) -> str:
    return f"{_MARK}{literal}"


def _finish(body: dict[str, Any], record: Record, behaviour: Behaviour) -> dict[str, Any]:
    if not behaviour.nulls:
        body = _without_nulls(body)
        # Metadata is returned unchanged.
        if record.metadata is not None and "metadata" in body:
            body["metadata"] = record.metadata
    return body | record.raw


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
