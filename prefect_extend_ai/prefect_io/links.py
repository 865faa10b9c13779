"""Where people look at what is in Prefect."""

from __future__ import annotations

from typing import Any

from prefect.utilities import urls

from prefect_extend_ai.prefect_io.addresses import without_password

__all__ = ["url_for"]


def url_for(what: str, obj_id: Any) -> str | None:
    """Prefect's address of a page; None where no UI is known.

    Prefect makes it of PREFECT_API_URL, with user and password where that names them.
    """
    found = urls.url_for(what, obj_id=obj_id)
    return without_password(found) if found else None
