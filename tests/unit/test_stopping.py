"""SIGTERM is for sweeps that are under way, and for nobody's that is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

import pytest
from prefect.utilities.engine import can_ack_control_intent, capture_sigterm

from prefect_extend_ai.flows import stopping
from prefect_extend_ai.sweep.stop import Stop


@pytest.fixture
def heard(monkeypatch):
    """The signals that a handler from before a sweep receives."""
    monkeypatch.setattr(stopping, "get_run_logger", lambda: logging.getLogger("sweep"))
    monkeypatch.setattr(stopping, "LOOK_EVERY", 0.01)
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    yield heard
    signal.signal(signal.SIGTERM, before)


def terminate():
    signal.raise_signal(signal.SIGTERM)


async def a_sweep(stop, *, terminated):
    """The handler that a sweep had, after its end."""
    with stopping.stopping_gently(stop):
        if terminated:
            terminate()
            await asyncio.sleep(0)
        return signal.getsignal(signal.SIGTERM)


def test_sigterm_stops_a_sweep_and_is_passed_on_at_its_end(heard):
    stop = Stop()
    asyncio.run(a_sweep(stop, terminated=True))
    assert "SIGTERM" in stop.reason
    assert heard == ["SIGTERM"]


def test_a_handler_of_a_sweep_that_is_over_gives_way(heard):
    stop = Stop()
    left_behind = asyncio.run(a_sweep(stop, terminated=False))
    signal.signal(signal.SIGTERM, left_behind)
    terminate()
    assert heard == ["SIGTERM"]
    assert stop.reason is None


async def test_a_sweep_that_is_done_with_the_signal_keeps_it(heard):
    with stopping.stopping_gently(Stop()) as sweep:
        terminate()
        sweep.done = sweep.received
    assert heard == []


class Flow:
    """A sweep as a flow of Prefect's runs it, whose end another may come before."""

    def __init__(self):
        self.stop = Stop()
        self._engine, self._sweep = contextlib.ExitStack(), contextlib.ExitStack()

    def begin(self):
        self._engine.enter_context(capture_sigterm())
        self.stopping = self._sweep.enter_context(stopping.stopping_gently(self.stop))
        return self

    def end(self):
        self._sweep.close()
        self._engine.close()


@pytest.mark.parametrize("first_ends_first", [True, False])
async def test_a_flow_that_ends_leaves_the_other_its_gentle_stop(heard, first_ends_first):
    first, second = Flow().begin(), Flow().begin()
    ending, staying = (first, second) if first_ends_first else (second, first)
    ending.end()
    # Prefect has put back what was there before its first flow: the sweep notices that soon.
    await asyncio.sleep(0.05)
    terminate()
    assert staying.stop.reason
    assert staying.stopping.received
    assert ending.stop.reason is None
    assert heard == []
    staying.stopping.done = True
    staying.end()
    terminate()
    assert heard == ["SIGTERM"]


async def test_two_sweeps_are_both_stopped_and_the_last_passes_on(heard):
    first, second = Stop(), Stop()
    with stopping.stopping_gently(first):
        with stopping.stopping_gently(second):
            terminate()
            assert first.reason
            assert second.reason
        assert heard == []
        late = Stop()
        with stopping.stopping_gently(late):
            assert late.reason
    assert heard == ["SIGTERM"]


async def test_a_later_flow_of_anybody_leaves_a_sweep_its_stop(heard):
    with capture_sigterm(), stopping.stopping_gently(stop := Stop()) as sweep:
        with capture_sigterm():
            terminate()
        assert stop.reason
        sweep.done = True


async def test_prefect_may_say_why_it_terminates_a_sweep(heard):
    with capture_sigterm():
        with stopping.stopping_gently(Stop()):
            assert can_ack_control_intent()
        assert can_ack_control_intent()
    assert not can_ack_control_intent()
    assert heard == []
