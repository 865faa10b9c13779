"""The work pool of a deployment: made where it is missing, and what its type asks of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkerStatus, WorkPool
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.rendering import visible

__all__ = ["ensure_pool", "has_worker", "image_notes", "is_loopback"]

PROCESS = "process"


async def ensure_pool(prefect: PrefectClient, name: str, *, image: str | None) -> tuple[WorkPool, bool]:
    """The work pool of this name, and whether it was created, of type process.

    Raises ExtendInputError where an image is named and the pool's flow runs are processes.
    """
    try:
        pool, created = await prefect.read_work_pool(name), False
    except ObjectNotFound:
        if image is not None:
            how = f"prefect work-pool create {name} --type docker (or kubernetes, ...)"
            raise ExtendInputError(f'there is no work pool "{name}" to run an image: {how}') from None
        pool, created = await prefect.create_work_pool(WorkPoolCreate(name=name, type=PROCESS)), True
    if pool.type == PROCESS and image is not None:
        raise ExtendInputError(
            f'the work pool "{name}" is of type process, whose flow runs use no image: they use what is installed '
            "where the worker runs. Leave --image out, or name another --pool"
        )
    return pool, created


async def has_worker(prefect: PrefectClient, pool: WorkPool) -> bool:
    """Whether flow runs of this pool are started as they fall due."""
    if pool.is_paused:
        return False
    if pool.is_push_pool or pool.is_managed_pool:
        return True  # Prefect starts them itself
    workers = await prefect.read_workers_for_work_pool(pool.name)
    return any(each.status is WorkerStatus.ONLINE for each in workers)


def image_notes(pool_type: str, variables: Mapping[str, Any], *, api_url: str, prefect_url: str) -> list[str]:
    """What somebody must know whose flow runs are not processes of the worker: one sentence each.

    Args:
        pool_type: type of the work pool.
        variables: the job variables of the deployments.
        api_url: the address in the block.
        prefect_url: the address of Prefect's API that is used here.
    """
    if pool_type == PROCESS:
        return []
    package = f"prefect-extend-ai {version('prefect-extend-ai')}"
    if image := variables.get("image"):
        notes = [f"the image {visible(image, 200)} must hold {package}: deployments/Dockerfile builds one"]
    else:
        what = (
            f"flow runs of a {visible(pool_type, 40)} pool import the flows from their image, which must hold {package}"
        )
        how = "Prefect's own images do not. Build one with deployments/Dockerfile, and name it with --image"
        notes = [f"{what}; {how}"]
    here = "which in a container is the container itself"
    if is_loopback(api_url):
        notes.append(f"the block's address is {api_url}, {here}: give the block one that containers reach")
    if is_loopback(prefect_url) and not _has_prefect_url(variables):
        how = """--job-variable 'env={"PREFECT_API_URL": "http://..."}'"""
        notes.append(
            f"PREFECT_API_URL is {without_password(prefect_url)}, {here}: flow runs need one that they reach, "
            f"where the worker starts or by {how}"
        )
    return notes


def _has_prefect_url(variables: Mapping[str, Any]) -> bool:
    environment = variables.get("env")
    url = environment.get("PREFECT_API_URL") if isinstance(environment, dict) else None
    return bool(url) and not is_loopback(str(url))


def is_loopback(url: str) -> bool:
    """Whether an address names the machine that uses it: localhost, 127.0.0.0/8, ::1, 0.0.0.0."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
