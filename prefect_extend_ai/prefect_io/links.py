"""Where people look at what is in Prefect."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from uuid import UUID

from prefect.utilities import urls

from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.runs import RunKind

__all__ = ["events_url", "run_resource", "url_for"]

ANY_ID = UUID(int=0)
SHOWN_SECONDS = 7 * 24 * 3600
"""How far back a page of events shows them: what a Prefect server keeps by default. Without it, the UIs show a day."""


def url_for(what: str, obj_id: Any) -> str | None:
    """Prefect's address of a page; None where no UI is known.

    Prefect makes it of PREFECT_API_URL, with user and password where that names them.
    """
    found = urls.url_for(what, obj_id=obj_id)
    return without_password(found) if found else None


def run_resource(kind: RunKind, run_id: str) -> str:
    """The resource that a run is in Prefect's events, `extend.classify_run.clr_1`."""
    return f"extend.{kind.object_name}.{run_id}"


def events_url(kind: RunKind, run_id: str) -> str:
    """Where people look at the events of one run in the Prefect UI; empty where Prefect names no UI."""
    # Prefect makes no such addresses, so its address of a flow run tells where the UI is.
    path = f"/runs/flow-run/{ANY_ID}"
    found = url_for("flow-run", obj_id=ANY_ID) or ""
    if not found.endswith(path):
        return ""
    base, resource = found.removesuffix(path), run_resource(kind, run_id)
    # The new UI takes a list, the old one a name.
    is_new = base.endswith("/v2")
    asked = json.dumps([resource]) if is_new else resource
    span = "rangeType" if is_new else "type"
    return f"{base}/events?resource={quote(asked, safe='')}&{span}=span&seconds=-{SHOWN_SECONDS}"
