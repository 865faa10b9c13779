"""SIGTERM is for sweeps that are under way, and for nobody's that is over."""

from __future__ import annotations

import asyncio
import logging
import signal

import pytest

from prefect_extend_ai.flows import stopping
from prefect_extend_ai.stop import Stop


@pytest.fixture
def heard(monkeypatch):
    """What whoever listened before a sweep hears."""
    monkeypatch.setattr(stopping, "get_run_logger", lambda: logging.getLogger("sweep"))
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    yield heard
    signal.signal(signal.SIGTERM, before)


async def a_sweep(stop, *, terminated):
    """The handler that a sweep had, after its end."""
    with stopping.stopping_gently(stop):
        if terminated:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
        return signal.getsignal(signal.SIGTERM)


def test_sigterm_stops_a_sweep_and_is_handed_on_at_its_end(heard):
    stop = Stop()
    asyncio.run(a_sweep(stop, terminated=True))
    assert "SIGTERM" in stop.reason
    assert heard == ["SIGTERM"]


def test_a_handler_of_a_sweep_that_is_over_gives_way(heard):
    stop = Stop()
    left_behind = asyncio.run(a_sweep(stop, terminated=False))
    signal.signal(signal.SIGTERM, left_behind)
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["SIGTERM"]
    assert stop.reason is None
