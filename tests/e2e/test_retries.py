"""Prefect's own retries of the flows: `retries=`, and PREFECT_FLOWS_DEFAULT_RETRIES."""

from __future__ import annotations

import pytest

from prefect_extend_ai import ExtendCredentials, SweepFailed, SweepRefused
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.sandbox import serve


@pytest.fixture
def extend(stuck, proxied):
    """A sandbox with three stale runs behind a proxy that refuses a number of attempts."""
    with serve(stuck(3)) as sandbox:
        proxy = proxied(sandbox.url)
        proxy.closed = 0

        def let_in(request):
            # Only the sweep's own listing: it may also read what other tests left open on this Prefect.
            if "_runs?" not in request.path:
                return None
            proxy.closed -= 1
            return 401 if proxy.closed >= 0 else None

        proxy.before = let_in
        proxy.credentials = ExtendCredentials(api_key="sk_sandbox", base_url=proxy.url, requests_per_second=100)
        yield proxy


async def flow_run_of(state):
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await client.read_flow_run(state.state_details.flow_run_id)


def retried_once(flow):
    return flow.with_options(retries=1, retry_delay_seconds=0)


async def test_a_sweep_that_failed_is_tried_again(prefect_server, extend):
    extend.closed = 1
    state = await retried_once(cancel_stale_runs)(extend.credentials, return_state=True)
    assert state.is_completed()
    assert (await state.aresult()).selected == 3
    assert (await flow_run_of(state)).run_count == 2


async def test_the_last_attempt_ends_failed_and_has_the_report(prefect_server, extend):
    extend.closed = 1000
    state = await retried_once(cancel_stale_runs)(extend.credentials, return_state=True)
    flow_run = await flow_run_of(state)
    assert (flow_run.run_count, flow_run.state.type.value, flow_run.state.name) == (2, "FAILED", "Failed")
    failure = await state.aresult(raise_on_failure=False)
    assert isinstance(failure, SweepFailed)
    assert "401" in failure.report.trouble
    assert "401" in flow_run.state.message


async def test_a_direct_call_raises_after_its_last_attempt(prefect_server, extend):
    extend.closed = 1000
    with pytest.raises(SweepFailed) as failed:
        await retried_once(cancel_runs)(extend.credentials, ["clr_none"])
    assert failed.value.report.trouble


async def test_a_refused_sweep_ends_at_once(prefect_server, extend):
    state = await retried_once(cancel_stale_runs)(
        extend.credentials, policy={"refuse_above": 1, "max_cancellations": 1}, return_state=True
    )
    flow_run = await flow_run_of(state)
    assert (flow_run.run_count, flow_run.state.type.value, flow_run.state.name) == (1, "FAILED", "Refused")
    assert isinstance(await state.aresult(raise_on_failure=False), SweepRefused)


async def test_bad_input_ends_at_once(prefect_server, extend):
    state = await retried_once(cancel_runs)(extend.credentials, ["clr_one", "exr_two"], return_state=True)
    flow_run = await flow_run_of(state)
    assert (flow_run.run_count, flow_run.state.type.value) == (1, "FAILED")
    assert isinstance(await state.aresult(raise_on_failure=False), SweepFailed)


async def test_the_default_number_of_retries_holds_too(prefect_server, extend, sweeping):
    extend.closed = 1000
    sweep = sweeping(extend.url, PREFECT_FLOWS_DEFAULT_RETRIES="1")
    assert sweep.wait() == 1
    assert sweep.said.count("Received non-final state 'AwaitingRetry'") == 1
    assert "failed: " in sweep.said
