"""No body takes more memory than the bound, however it is packed."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_extend_ai.client import bodies
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import ExtendServerError, ExtendUnexpectedResponseError

MB = 1024**2


class Parts(httpx.AsyncByteStream):
    """A body that arrives in parts."""

    def __init__(self, *parts):
        self.parts = parts

    async def __aiter__(self):
        for part in self.parts:
            yield part


async def read(body, *codings, status=200):
    """The text of a response with this body; `codings` are the values of its content-encoding lines."""
    headers = [("content-encoding", coding) for coding in codings]
    stream = body if isinstance(body, httpx.AsyncByteStream) else Parts(body)
    transport = Transport(
        "https://api.example",
        SecretStr("sk_test"),
        api_version="v",
        requests_per_second=1000,
        http_transport=httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, stream=stream)),
    )
    return (await transport.post("/p")).text


def a_bomb(unpacked, layers=1):
    """`unpacked` zero bytes, compressed `layers` times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = b"".join(packer.compress(bytes(MB)) for _ in range(unpacked // MB)) + packer.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed, 9)
    return packed


async def peak_of(body, *codings):
    tracemalloc.start()
    try:
        with pytest.raises(ExtendUnexpectedResponseError):
            await read(body, *codings)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_a_bomb_is_not_unpacked_beyond_the_bound(monkeypatch):
    monkeypatch.setattr(bodies, "LARGEST_BODY", 2 * MB)
    bomb = a_bomb(200 * MB)
    assert len(bomb) < MB
    assert await peak_of(bomb, "gzip") < 8 * MB


@pytest.mark.parametrize("codings", [["gzip, gzip"], ["gzip", "gzip"], ["GZIP,gzip"], ["identity, gzip, gzip"]])
async def test_a_bomb_within_a_bomb_is_not_unpacked_at_all(codings):
    bomb = a_bomb(100 * MB, layers=2)
    assert len(bomb) < 2500
    assert await peak_of(bomb, *codings) < MB


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, br", "compress", "x"])
async def test_an_encoding_that_was_not_requested_is_unexpected(coding):
    with pytest.raises(ExtendUnexpectedResponseError, match="which was not requested"):
        await read(b"{}", coding)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZip", " gzip ", "identity, gzip"])
async def test_gzip_is_unpacked_by_any_of_its_names(coding):
    assert await read(gzip.compress(b"{}"), coding) == "{}"


async def test_an_error_keeps_its_kind_however_it_is_packed():
    for body, coding in ((a_bomb(100 * MB, layers=2), "gzip, gzip"), (b"no gzip", "gzip"), (b"x", "br")):
        with pytest.raises(ExtendServerError, match="503"):
            await read(body, coding, status=503)


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4), st.integers(1, 50), st.integers(1, 7))
def test_what_was_packed_is_unpacked_however_it_arrives(members, size, at_once):
    texts = [member.hex().encode() for member in members]
    packed = b"".join(gzip.compress(text) for text in texts)
    parts = Parts(*(packed[start : start + size] for start in range(0, len(packed), size)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "DECOMPRESSED_AT_ONCE", at_once)
        assert asyncio.run(read(parts, "gzip")) == b"".join(texts).decode()


@pytest.mark.parametrize("at_once", [1, 258, 65536])
async def test_nothing_is_left_inside_where_a_bound_is_met_exactly(monkeypatch, at_once):
    monkeypatch.setattr(bodies, "DECOMPRESSED_AT_ONCE", at_once)
    assert await read(gzip.compress(b" " * 10 * at_once), "gzip") == " " * 10 * at_once


@pytest.mark.parametrize("cut", [1, 4, 9])
async def test_a_body_that_ends_too_early_is_an_unexpected_response(cut):
    with pytest.raises(ExtendUnexpectedResponseError, match="cannot be decompressed: it ends too early"):
        await read(gzip.compress(b'{"id": "clr_1"}')[:-cut], "gzip")


async def test_what_follows_a_compressed_body_is_not_part_of_it():
    with pytest.raises(ExtendUnexpectedResponseError, match="cannot be decompressed"):
        await read(gzip.compress(b"{}") + b"more", "gzip")
