"""Which sweeps are still alive on this machine, so that nobody recovers what another is busy with."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

from filelock import BaseFileLock, FileLock, Timeout

__all__ = ["sign_of_life", "sweep_host", "sweep_is_alive", "sweep_lock"]

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def sweep_lock(sweep_id: UUID | None) -> Iterator[None]:
    """Hold the sign that this sweep is alive, for other sweeps on this machine to see.

    The operating system releases it when the process dies, however it dies, so a killed sweep is known as dead
    at once. Without a place for the file there is no lock, and at worst a run is recorded twice.
    """
    lock: BaseFileLock | None = None
    try:
        if sweep_id is not None:
            # The same lock for all who hold it here: tasks side by side in one flow share the flow's sign.
            lock = FileLock(_lock_path(sweep_id), timeout=0, is_singleton=True, thread_local=False)
            lock.acquire()
    except (OSError, Timeout):
        logger.debug("No lock file for sweep %s", sweep_id, exc_info=True)
    try:
        yield
    finally:
        if lock and lock.is_locked:
            if lock.lock_counter == 1:
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def sweep_is_alive(sweep_id: UUID | None) -> bool:
    """Whether a sweep on this machine still holds its lock.

    One on another machine does not look alive.
    """
    if sweep_id is None:
        return False
    try:
        path = _lock_path(sweep_id)
        if path.exists():
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
    except Timeout:
        return True
    except OSError:
        logger.debug("The lock file of sweep %s cannot be looked at", sweep_id, exc_info=True)
    return False


def sign_of_life(sweep_id: UUID) -> bool | None:
    """Whether a sweep that ran on this machine still does; None where nothing here tells, as of another machine's."""
    try:
        path = _lock_path(sweep_id)
        if not path.exists():
            return None
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None


def _lock_folder() -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"prefect-extend-ai-{owner}"


@functools.cache
def sweep_host() -> str:
    """Where a sweep's sign of life is: sweeps that say the same see each other's.

    Two containers may have the same host name and path, and different folders: hence a mark in the folder itself.
    """
    folder = _lock_folder()
    mark = folder / "host"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError), mark.open("x") as new:
            new.write(uuid4().hex)
        found = mark.read_text()
    except OSError:
        logger.debug("No mark in %s", folder, exc_info=True)
        found = ""
    return f"{socket.gethostname()}:{folder}:{found}"


def _lock_path(sweep_id: UUID | None) -> Path:
    folder = _lock_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{sweep_id}.lock"
