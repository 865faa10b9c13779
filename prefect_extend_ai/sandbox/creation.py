"""What a request to create a run asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from prefect_extend_ai.runs import CANCELLED, FAILED, RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.faults import Fault
from prefect_extend_ai.sandbox.objects import CONFIGS, file_id
from prefect_extend_ai.sandbox.population import processors
from prefect_extend_ai.sandbox.record import Processor, Record

__all__ = ["read_creation"]

_FILE = ("url", "id", "text", "base64")


def read_creation(kind: RunKind, body: bytes, others: Iterable[Record], behaviour: Behaviour) -> dict[str, Any]:
    """The attributes of the run to create, for `World.add`. Raises Fault 400 for an invalid request.

    Args:
        kind: the kind of run.
        body: the request's body.
        others: the runs of the workspace, whose files a request may name by id.
        behaviour: assumptions about what the vendor does not document.
    """
    try:
        asked = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise _invalid("The body must be a JSON object.")
    metadata = asked.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise _invalid("metadata must be an object.")
    if len(json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode()) > behaviour.metadata_bytes:
        raise _invalid(f"metadata must not be larger than {behaviour.metadata_bytes} bytes.")
    run: dict[str, Any] = {"metadata": metadata} | _file(asked.get("file"), others, behaviour)
    return run | (_processor(kind, asked, behaviour) if kind.processor else {})


def _file(file: Any, others: Iterable[Record], behaviour: Behaviour) -> dict[str, Any]:
    if not isinstance(file, dict) or not any(isinstance(file.get(how), str) for how in _FILE):
        raise _invalid("file must be an object with a url, an id, a text or base64.")
    if not isinstance(file.get("id"), str):
        return {"file_name": _name(file)}
    of_file = [each for each in others if each.file_name is not None and file_id(each) == file["id"]]
    if not behaviour.reuses_files and any(each.status in (CANCELLED, FAILED) for each in of_file):
        raise _invalid(f"The file {file['id']} is not available.")
    return {"file_name": of_file[0].file_name if of_file else "document.pdf", "file_id": file["id"]}


def _name(file: dict[str, Any]) -> str:
    if isinstance(file.get("name"), str):
        return str(file["name"])
    if isinstance(file.get("url"), str):
        return str(file["url"]).partition("?")[0].rpartition("/")[2] or "document.pdf"
    return "document.txt"


def _processor(kind: RunKind, asked: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    reference, config = asked.get(str(kind.processor)), asked.get("config")
    if isinstance(reference, dict) and isinstance(reference.get("id"), str):
        known = {processor.id: processor for processor in processors(kind)}
        run: dict[str, Any] = {"processor": known.get(reference["id"], Processor(reference["id"], reference["id"]))}
        version, override = reference.get("version"), reference.get("overrideConfig")
        if isinstance(version, str) and version != "latest" and behaviour.keeps_version:
            run["version"] = version
        return run | ({"config": CONFIGS[kind] | override} if isinstance(override, dict) and kind in CONFIGS else {})
    if isinstance(config, dict) and kind is not RunKind.WORKFLOW:
        return {"config": config}
    raise _invalid(f"Give a {kind.processor} with an id, or a config.")


def _invalid(message: str) -> Fault:
    return Fault(400, "INVALID_REQUEST", message)
