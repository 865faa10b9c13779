"""Whether the installed releases fit: the Prefect that this package needs, and what a Prefect server needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from prefect_extend_ai.errors import ExtendError

__all__ = ["require_deploy", "require_prefect", "require_server", "unfit_prefect", "unfit_server"]

US = "prefect-extend-ai"
CAPPED_BY_PREFECT = Version("3.9")
"""From there on Prefect's own metadata names the releases that its server runs with; before, the extra does."""
SERVER = {"fastapi": "FastAPI", "sqlalchemy": "SQLAlchemy"}
REMEDY = f"pip install '{US}[server]' (a Prefect server elsewhere needs none of this here)"

Installed = Callable[[str], str | None]
"""The installed release of a distribution, or None."""


def require_prefect() -> None:
    """Raise ExtendError where the installed Prefect is not one that this package works with."""
    _raise(unfit_prefect(_installed, _required(US)))


def require_deploy() -> None:
    """Raise ExtendError where `prefect deploy` is not there."""
    if _installed("prefect") is None:
        raise ExtendError(
            "prefect-client is installed, which cannot deploy: type this where prefect is, on your own machine "
            f"for example; on prefect-client `{US} serve` runs sweeps"
        )


def require_server() -> None:
    """Raise ExtendError where a Prefect server cannot run in this environment."""
    _raise(unfit_server(_installed, _required("prefect"), _required(US, extra="server")))


def unfit_prefect(installed: Installed, ours: Iterable[Requirement]) -> str | None:
    """What is wrong with the installed Prefect, as a sentence; None if nothing is.

    Args:
        installed: the releases in this environment.
        ours: what this package requires.
    """
    found = installed("prefect") or installed("prefect-client")
    name = "prefect" if installed("prefect") else "prefect-client"
    for needed in ours:
        if needed.name == "prefect" and found and not needed.specifier.contains(found, prereleases=True):
            return (
                f"Prefect {found} is installed, and {US} needs {needed}: "
                f"pip install --upgrade '{name}{needed.specifier}'"
            )
    return None


def unfit_server(installed: Installed, prefects: Iterable[Requirement], extra: Iterable[Requirement]) -> str | None:
    """Why a Prefect server cannot run in this environment, as a sentence; None if it can.

    Args:
        installed: the releases in this environment.
        prefects: what Prefect requires.
        extra: what the extra `server` of this package requires.
    """
    prefect = installed("prefect")
    if prefect is None:
        return f"no Prefect server is installed here, and prefect-client has none: {REMEDY}"
    needs = [*prefects, *(extra if Version(prefect) < CAPPED_BY_PREFECT else ())]
    for needed in needs:
        found = installed(needed.name)
        if needed.name.lower() in SERVER and found and not needed.specifier.contains(found, prereleases=True):
            title = SERVER[needed.name.lower()]
            limit = f"{needed.name}{needed.specifier}"
            return f"a server of Prefect {prefect} needs {limit}, and {title} {found} is installed: {REMEDY}"
    return None


def _raise(problem: str | None) -> None:
    if problem is not None:
        raise ExtendError(problem)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required(name: str, *, extra: str = "") -> list[Requirement]:
    """What a distribution requires: always, or of one extra alone."""
    try:
        found = [Requirement(each) for each in requires(name) or []]
    except PackageNotFoundError:
        return []
    return [
        each
        for each in found
        if (each.marker is not None and each.marker.evaluate({"extra": extra}) if extra else each.marker is None)
    ]
