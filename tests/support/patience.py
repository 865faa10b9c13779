"""Asking again, on a machine that is busy."""

from __future__ import annotations

import time

import httpx


class Patient(httpx.HTTPTransport):
    """A transport that asks Prefect again where SQLite was busy (503), as Prefect's own client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for pause in (0.2, 0.5, 1, 2, 4):
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return response
            response.close()
            time.sleep(pause)
        return super().handle_request(request)
