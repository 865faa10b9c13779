"""The pytest plugin of prefect-extend-ai: the fixture `extend_sandbox`.

A module of its own at the top, because pytest imports plugins at every start: the package, and Prefect with it, is
imported only where a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from prefect_extend_ai.sandbox import Served

__all__ = ["extend_sandbox"]


@pytest.fixture
def extend_sandbox() -> Iterator[Served]:
    """An empty sandbox of Extend's API on a free port, for one test: `url`, and `world` to fill and to inspect."""
    from prefect_extend_ai.sandbox import World, serve  # noqa: PLC0415

    with serve(World()) as served:
        yield served
