"""Network settings of this machine that let no request out: certificates and proxies, by the variable that is wrong."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpx

__all__ = ["settings_problem", "tls_context"]

UNKNOWN_AUTHORITY = (18, 19, 20, 21)
"""OpenSSL's codes for a certificate that no known authority has signed."""


def tls_context() -> ssl.SSLContext:
    """The authorities that are trusted. Raises ValueError where SSL_CERT_FILE or SSL_CERT_DIR cannot be read."""
    try:
        # httpx 0.27 would pass over it.
        if path := os.environ.get("SSL_CERT_FILE"):
            Path(path).open("rb").close()
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "SSL_CERT_FILE")
        problem = f"{name} is {os.environ.get(name)!r}, and no certificates can be read from it ({error})"
    raise ValueError(problem)


def settings_problem(error: BaseException, url: httpx.URL) -> str | None:
    """What is wrong with this machine's settings where a request to `url` failed for it; None for any other failure.

    Sending the same again would fail the same way. No text holds the user or the password of a proxy.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_problem(cause, url.host)
    proxies = {name: value for scheme, value in getproxies().items() if (name := _variable(scheme)) and value}
    if any(isinstance(cause, ImportError) and "socks" in str(cause).lower() for cause in causes):
        name = next((name for name, value in proxies.items() if value.startswith("socks")), "ALL_PROXY")
        return f"{name} names a SOCKS proxy, which needs a further package: pip install 'httpx[socks]'"
    if any(isinstance(cause, httpx.InvalidURL | ValueError | OverflowError) for cause in causes):
        problem = _invalid(proxies, causes[0])
        if problem is not None:
            return problem
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return _unresolved(proxies, url)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, groups opened."""
    todo, seen = [error], set[int]()
    while todo:
        each = todo.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
        todo += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


def _certificate_problem(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code not in UNKNOWN_AUTHORITY:
        return f"the certificate of {host} is not valid: {error.verify_message}"
    return (
        f"the certificate of {host} is not signed by a known authority ({error.verify_message}). Where your company's "
        "proxy signs it, name a PEM file with the company's authority in SSL_CERT_FILE"
    )


def _variable(scheme: str) -> str | None:
    """The name of the variable as spelled in the environment; None where httpx does not read it."""
    if scheme not in ("http", "https", "all"):
        return None
    name = f"{scheme}_proxy"
    return next((each for each in (name, name.upper()) if os.environ.get(each)), name.upper())


def _invalid(proxies: Mapping[str, str], error: BaseException) -> str | None:
    """The variable that cannot be read as what it is for; None where all can."""
    for name, value in proxies.items():
        try:
            proxy = _proxy_url(value)
        except httpx.InvalidURL as why:
            return f"{name} is not the address of a proxy: {why}"
        try:
            httpx.Proxy(proxy)
        except ValueError:
            return f"{name} names a proxy with the scheme {proxy.scheme!r}: known are http, https and socks5"
        if not proxy.host or (proxy.port or 0) > 0xFFFF:
            return f"{name} is not the address of a proxy: it has no valid host and port"
    no_proxy = next((name for name in ("no_proxy", "NO_PROXY") if os.environ.get(name)), None)
    if no_proxy and isinstance(error, httpx.InvalidURL):
        return (
            f"{no_proxy} cannot be read ({error}): it is a list of host names, domains and addresses, separated by "
            "commas, without ranges of IPv6 addresses"
        )
    return None


def _unresolved(proxies: Mapping[str, str], url: httpx.URL) -> str | None:
    """The proxy whose name is not known, where the request goes through one; None where it does not."""
    used = next((name for name in proxies if name.lower() in (f"{url.scheme}_proxy", "all_proxy")), None)
    if used is None or proxy_bypass(url.host):
        return None
    return f"{used} names the proxy {_proxy_url(proxies[used]).host}, and this machine cannot resolve that name"


def _proxy_url(value: str) -> httpx.URL:
    return httpx.URL(value if "://" in value else f"http://{value}")
