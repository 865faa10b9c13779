"""The saved Extend Credentials block, and how it differs from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.runs import RunKind

__all__ = [
    "BlockName",
    "KindOption",
    "PoolName",
    "block_reference",
    "deployment_name",
    "differing_fields",
    "kinds_of",
    "saved_block",
]

SLUG = ExtendCredentials.get_block_type_slug()


def _check_name(_: object, name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError("Prefect takes lower-case letters, digits and single dashes.")


BlockName = Annotated[str, Parameter(validator=_check_name)]
"""A command-line option that names a block, and the deployments that use it."""


def _check_pool(_: object, name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[^/%&><]+", name):
        raise ValueError("Prefect takes any characters but / % & > <, and at least one.")


PoolName = Annotated[str, Parameter(validator=_check_pool)]
"""A command-line option that names a work pool."""


KindOption = Literal["classify", "extract", "split", "parse", "verify", "workflow", "all"]
"""A command-line option that names kinds of run; it can be given several times."""


def kinds_of(chosen: Iterable[KindOption]) -> list[RunKind]:
    """The kinds that were chosen, each once, in the order of `RunKind`."""
    names = set(chosen)
    return [kind for kind in RunKind if "all" in names or kind.value in names]


def deployment_name(name: str, kind: RunKind) -> str:
    """The name of the deployment that sweeps one kind: that of the block, and the kind unless it is classify."""
    return name if kind is RunKind.CLASSIFY else f"{name}-{kind}"


def block_reference(name: str) -> dict[str, dict[str, str]]:
    """A flow parameter that names a saved block: Prefect stores this, never the key."""
    return {"$ref": {"block_document_slug": f"{SLUG}/{name}"}}


async def saved_block(client: PrefectClient, name: str) -> ExtendCredentials | None:
    """The saved block of this name, not validated; None if there is none.

    Raises httpx's and Prefect's errors where Prefect does not answer.
    """
    try:
        await client.read_block_document_by_name(name, SLUG, include_secrets=False)
    except ObjectNotFound:
        return None
    return await ExtendCredentials.aload(name, validate=False, client=client)


def differing_fields(saved: ExtendCredentials, wanted: ExtendCredentials) -> list[str]:
    """The names of the fields in which the two blocks differ; never their values."""
    return [name for name in ExtendCredentials.model_fields if _plain(saved, name) != _plain(wanted, name)]


def _plain(block: ExtendCredentials, name: str) -> Any:
    value = getattr(block, name, None)
    return value.get_secret_value() if isinstance(value, SecretStr) else value
