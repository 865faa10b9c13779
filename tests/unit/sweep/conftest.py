"""A sweep over runs in memory."""

from __future__ import annotations

import pytest

from support.stage import Stage


@pytest.fixture
def stage(runner):
    """Makes a stage of such runs."""
    return lambda *runs, **options: Stage(runner, runs, **options)
