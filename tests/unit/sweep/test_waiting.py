"""Waiting for a run: the vendor's rhythm, and a deadline that a restart does not renew."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from extend_ai.wrapper.polling import HybridDelayOptions, PollingOptions, calculate_hybrid_delay
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendAuthError, ExtendNotFoundError, ExtendServerError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.waiting import JITTER, poll_pause, wait_until_ended
from support.extend import START, Client, Extend
from support.processes import Process
from support.virtual_time import VirtualLoop


@given(st.floats(0, 7200), st.floats(0, 1))
def test_pauses_are_those_of_the_vendors_sdk(waited, luck):
    defaults = PollingOptions()
    options = HybridDelayOptions(
        fast_poll_duration_ms=defaults.fast_poll_duration_ms,
        fast_poll_interval_ms=defaults.fast_poll_interval_ms,
        initial_delay_ms=defaults.initial_delay_ms,
        max_delay_ms=defaults.max_delay_ms,
        backoff_multiplier=defaults.backoff_multiplier,
        jitter_fraction=0,
    )
    theirs = calculate_hybrid_delay(waited * 1000, options) / 1000
    # One step of the growth is where the two round differently.
    assert theirs / 1.2 <= poll_pause(waited, 0.5) <= theirs * 1.2
    assert poll_pause(waited, luck) == pytest.approx(poll_pause(waited, 0.5) * (1 + JITTER * (2 * luck - 1)))


class Waits:
    """Waits for one run in virtual time."""

    def __init__(self, runner, **run):
        self.runner, self.loop = runner, runner.get_loop()
        self.extend = Extend(self.loop, [run])
        self.client = Client(self.extend, Process("a flow"))

    def __call__(self, seconds, client=None):
        begun = self.loop.time()
        run = self.runner.run(wait_until_ended(client or self.client, "clr_0", RunKind.CLASSIFY, seconds))
        return run.status, self.loop.time() - begun


@pytest.fixture
def waits():
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield lambda **run: Waits(runner, **run)


def test_a_run_that_ends_is_returned_soon_after(waits):
    status, seconds = waits(updated=0.0, ends_at=100.0)(9000)
    assert status == "PROCESSED"
    assert 100 <= seconds < 120


def test_the_deadline_counts_from_the_runs_creation(waits):
    # The double creates its runs two hours before the start.
    status, seconds = waits(updated=0.0)(7200 + 300)
    assert status == "PROCESSING"
    assert 300 <= seconds < 310


def test_a_restart_does_not_renew_the_deadline(waits):
    wait = waits(updated=0.0)
    first = wait(7200 + 300)
    assert wait(7200 + 300) == ("PROCESSING", pytest.approx(0, abs=1))
    assert first[1] >= 300


@pytest.mark.parametrize("created", [None, (START + timedelta(days=1)).isoformat()])
def test_a_run_that_tells_no_times_has_the_time_from_the_call(waits, created):
    wait = waits(updated=0.0)

    class Undated:
        async def get_run(self, run_id, kind):
            run = await wait.client.get_run(run_id, kind)
            return Run(kind, {**run.raw, "createdAt": created}, run.text, run.read_at)

    status, seconds = wait(300, Undated())
    assert status == "PROCESSING"
    assert 300 <= seconds < 310


def test_an_outage_is_waited_out(waits):
    status, seconds = waits(updated=0.0, ends_at=40.0, gets=["502", "reset"] * 10)(9000)
    assert status == "PROCESSED"
    assert seconds < 60


def test_an_outage_until_the_deadline_is_raised(waits):
    with pytest.raises(ExtendServerError):
        waits(updated=0.0, gets=["502"] * 1000)(60)


@pytest.mark.parametrize(("word", "error"), [("404", ExtendNotFoundError), ("401", ExtendAuthError)])
def test_what_does_not_pass_by_is_raised_at_once(waits, word, error):
    wait = waits(updated=0.0, gets=[word])
    with pytest.raises(error):
        wait(9000)
    assert wait.loop.time() < 1
