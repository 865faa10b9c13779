"""A network setting that lets no request out is reported at once, as what it is, by the variable's name."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import asynccontextmanager

import httpx
import pytest
import stamina
from pydantic import SecretStr

from prefect_extend_ai.client import network
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import ExtendNetworkError, ExtendTransportError

KEY = "sk_do-not-show-4711"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def retries(caplog):
    """The retries so far."""
    caplog.set_level(logging.WARNING, "stamina")
    with stamina.set_testing(True, attempts=3, cap=True):
        yield lambda: [each for each in caplog.records if each.name.startswith("stamina")]


@asynccontextmanager
async def a_tls_server(context):
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def error_of(method, url="https://api.example"):
    transport = Transport(url, SecretStr(KEY), api_version="v", requests_per_second=1000)
    try:
        with pytest.raises(ExtendTransportError) as caught:
            await getattr(transport, method)("/classify_runs/clr_1")
    finally:
        await transport.aclose()
    return caught.value


NO_NAME = "names the proxy nosuch.invalid, and this machine cannot resolve that name"
WRONG = [
    ({"HTTPS_PROXY": "socks5://ada:secret@127.0.0.1:1"}, "HTTPS_PROXY names a SOCKS proxy, which needs .*httpx.socks"),
    ({"ALL_PROXY": "socks5://127.0.0.1:1"}, "ALL_PROXY names a SOCKS proxy"),
    ({"HTTPS_PROXY": "ftp://127.0.0.1:1"}, "HTTPS_PROXY names a proxy with the scheme 'ftp'"),
    ({"HTTPS_PROXY": "127.0.0.1:99999"}, "HTTPS_PROXY is not the address of a proxy: it has no valid host and port"),
    ({"HTTPS_PROXY": "http://[::1"}, "HTTPS_PROXY is not the address of a proxy: Invalid port"),
    ({"https_proxy": "http://ada:secret@nosuch.invalid:1"}, f"https_proxy {NO_NAME}"),
    ({"ALL_PROXY": "nosuch.invalid:1"}, f"ALL_PROXY {NO_NAME}"),
    ({"NO_PROXY": "localhost,fe80::/10"}, "NO_PROXY cannot be read .*without ranges of IPv6 addresses"),
    ({"no_proxy": "[::1", "HTTPS_PROXY": "http://127.0.0.1:1"}, "no_proxy cannot be read"),
]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(("settings", "said"), WRONG, ids=[" ".join(settings) for settings, _ in WRONG])
async def test_a_wrong_proxy_setting_is_named_at_once(method, settings, said, monkeypatch, retries):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    error = await error_of(method)
    assert isinstance(error, ExtendNetworkError)
    assert str(error).startswith(f"{method.upper()} /classify_runs/clr_1 at api.example: ")
    assert re.search(said, str(error))
    assert "secret" not in str(error)
    assert not retries()


async def test_a_proxy_that_is_not_used_is_not_blamed(monkeypatch, retries):
    monkeypatch.setenv("HTTPS_PROXY", "http://nosuch.invalid:1")
    monkeypatch.setenv("NO_PROXY", "other.invalid")
    error = await error_of("get", "https://other.invalid")
    assert not isinstance(error, ExtendNetworkError)
    assert len(retries()) == 2


async def test_an_unknown_authority_names_the_variable(certificate, retries):
    context, _ = certificate
    async with a_tls_server(context) as url:
        error = await error_of("get", url)
    assert isinstance(error, ExtendNetworkError)
    assert "is not signed by a known authority (self-signed certificate)" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert not retries()


async def test_a_certificate_of_another_host_is_no_missing_authority(certificate, monkeypatch, retries):
    context, path = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with a_tls_server(context) as url:
        error = await error_of("get", url)
    assert "the certificate of 127.0.0.1 is not valid: " in str(error)
    assert "SSL_CERT_FILE" not in str(error)
    assert not retries()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unreadable_authority_names_the_variable(content, tmp_path, monkeypatch):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ExtendNetworkError, match=f"^SSL_CERT_FILE is '{path}', and no certificates can be read"):
        Transport("https://api.example", SecretStr(KEY), api_version="v", requests_per_second=1)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadError(""), OSError("no"), RuntimeError()])
def test_any_other_failure_is_no_setting(error, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert network.settings_problem(error, httpx.URL("https://api.example")) is None
