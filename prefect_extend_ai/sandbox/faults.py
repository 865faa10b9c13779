"""Error responses, in every format that clients of the API report."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response

from prefect_extend_ai.sandbox.behaviour import Behaviour

__all__ = ["Fault", "fault_response"]


class Fault(Exception):  # a response, not an error of this program
    """An error response of the API."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        super().__init__(message)


def fault_response(fault: Fault, behaviour: Behaviour, request_id: str) -> Response:
    """The response to a request that failed; its body has the format of `Behaviour.errors`."""
    facts = {
        "code": fault.code,
        "message": fault.message,
        "retryable": fault.status in (408, 429) or fault.status >= 500,
        "requestId": request_id,
    }
    kind = "application/json"
    match behaviour.errors:
        case "flat":
            body = json.dumps(facts)
        case "wrapped":
            body = json.dumps({"error": facts})
        case "legacy":
            body = json.dumps({"success": False, "error": fault.message})
        case "text":
            body, kind = fault.message, "text/plain"
        case "html":
            title = f"{fault.status} {HTTPStatus(fault.status).phrase}"
            body, kind = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>", "text/html"
        case _:
            body = ""
    return Response(body, fault.status, fault.headers, kind)
