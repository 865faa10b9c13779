"""Responses as a test gives them, for what no sandbox says: odd bodies, headers, errors of the connection."""

from __future__ import annotations

import asyncio

import httpx
from pydantic import SecretStr

from prefect_extend_ai.client.transport import Transport


class Scripted:
    """Returns its responses in order, the last again and again where it `repeats`; keeps the requests and their times.

    A response is a status, an exception to raise, a status with headers and content, or an `httpx.Response`.
    """

    repeats = True

    def __init__(self, *responses):
        self.responses = list(responses)
        self.requests = []
        self.times = []

    @property
    def now(self):
        return asyncio.get_running_loop().time()

    @property
    def sent(self):
        return [(request.method, request.url.raw_path.decode()) for request in self.requests]

    def __call__(self, request):
        self.requests.append(request)
        self.times.append(self.now)
        is_last = self.repeats and len(self.responses) == 1
        response = self.responses[0] if is_last else self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        if isinstance(response, int):
            return httpx.Response(response, json={"code": "X", "message": "so it is"})
        if isinstance(response, httpx.Response):
            return response
        status, headers, content = response
        body = {"content": content} if isinstance(content, bytes) else {"stream": content}
        return httpx.Response(status, headers=headers, **body)

    def transport(self, url="https://api.example", key="sk_scripted", **options):
        given = {"api_version": "2026-02-09", "requests_per_second": 10**6, "http_transport": httpx.MockTransport(self)}
        return Transport(url, SecretStr(key), **(given | options))
