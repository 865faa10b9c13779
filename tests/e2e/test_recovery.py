"""What an earlier sweep left open is finished, reported and recorded once, whatever has changed since."""

from __future__ import annotations

import pytest
from prefect import flow
from prefect.client.schemas.objects import StateType

from prefect_extend_ai import ExtendCredentials, Outcome, StalePolicy, SweepFailed
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.rendering import escape
from prefect_extend_ai.sandbox import WORKSPACE, Behaviour, serve
from prefect_extend_ai.tasks import cancel_run

IMPATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "0", "RECORD_PATIENCE": "2"}


def is_record(request):
    return request.method == "POST" and request.path == "/artifacts/" and request.json.get("key") is None


@pytest.mark.parametrize("change", ["address", "workspace"])
async def test_a_block_that_was_edited_loses_nothing(prefect_server, proxied, sweeping, kept, change):
    (artifacts, stuck) = kept
    world = stuck(8)
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        records = []

        def die_at_the_third_record(request):
            records.extend([request] if is_record(request) else [])
            if len(records) == 3:
                sweep.kill()
            return sweep.process.returncode is not None

        prefect.before = die_at_the_third_record
        sweep = sweeping(sandbox.url, api_url=prefect.url, COVERAGE_PROCESS_CONFIG="")
        assert sweep.wait() == -9
        changed = (
            {"base_url": sandbox.url.replace("127.0.0.1", "localhost")}
            if change == "address"
            else {"base_url": sandbox.url, "workspace_id": WORKSPACE}
        )
        report = await cancel_stale_runs(ExtendCredentials(api_key="sk_sandbox", requests_per_second=100, **changed))
        assert report.recovered
        assert artifacts.holds_each_once(world)
        assert [each for url in {sandbox.url, changed["base_url"]} for each in artifacts.open_intents(url)] == []


async def test_a_cancel_that_hangs_is_news_once_and_then_still_pending(prefect_server, stuck, artifacts):
    world = stuck(3, behaviour=Behaviour(cancel="cancelling", cancel_seconds=3600))
    policy = StalePolicy(confirm_seconds=1)
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)
        with pytest.raises(SweepFailed, match="3 unconfirmed"):
            await cancel_stale_runs(credentials, policy=policy)
        for _ in range(2):
            state = await cancel_stale_runs(credentials, policy=policy, return_state=True)
            assert (state.type, state.name) == (StateType.COMPLETED, "StillPending")
            assert "3 still pending from earlier sweeps" in state.message
            report = await state.result()
            assert {each.run_id for each in report.pending} == {
                run_id for run_id, run in world.runs.items() if run.cancels
            }
            assert all(each.attempts == 1 and each.request_ids for each in report.pending)
        reports = [each["data"] for each in artifacts.keyed("extend-sweep-classify")]
        page = next(each for each in reports if escape(report.pending[0].run_id) in each and "still pending" in each)
        assert "### Pending from earlier sweeps" in page
        assert "Hello Extend support" in page


@pytest.mark.parametrize("status", [403, 500])
async def test_a_record_that_is_blocked_stops_no_other(prefect_server, proxied, sweeping, kept, status):
    (artifacts, stuck) = kept
    world = stuck(6)
    blocked = next(iter(world.stale()))
    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = lambda request: status if is_record(request) and blocked.encode() in request.body else None
        sweep = sweeping(sandbox.url, api_url=prefect.url, **IMPATIENT)
        assert sweep.wait() == 1
        assert "Cancelled 6 of 6 stale classify runs; 1 still to be recorded" in sweep.said
        for _ in range(3):
            world.add(age_minutes=120)
        sweep = sweeping(sandbox.url, api_url=prefect.url, **IMPATIENT)
        assert sweep.wait() == 0, sweep.said
        assert "Cancelled 3 of 3 stale classify runs; 1 still pending" in sweep.said
        prefect.before = lambda _: None
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)
        assert len((await cancel_stale_runs(credentials)).recovered) == 1
        assert artifacts.holds_each_once(world)
        assert artifacts.open_intents(sandbox.url) == []


@pytest.mark.parametrize("lost", ["record", "intent"])
async def test_a_lost_response_duplicates_nothing(prefect_server, proxied, sweeping, kept, lost):
    (artifacts, stuck) = kept
    world = stuck(3)
    gone = []

    def lose_one(request):
        fits = (
            is_record(request) if lost == "record" else request.path == "/artifacts/" and b"write-ahead" in request.body
        )
        if fits and not gone:
            gone.append(request)
            return True
        return False

    with serve(world) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.after = lose_one
        sweep = sweeping(sandbox.url, api_url=prefect.url)
        assert sweep.wait() == 0, sweep.said
        assert gone
        assert artifacts.holds_each_once(world)
        assert artifacts.open_intents(sandbox.url) == []


async def test_an_intent_is_gone_although_deletes_are_refused_a_while(prefect_server, proxied, sweeping, kept):
    (artifacts, stuck) = kept
    refused = []

    def busy(request):
        if request.method == "DELETE" and len(refused) < 3:
            refused.append(request)
            return 500
        return None

    with serve(stuck(3)) as sandbox:
        prefect = proxied(prefect_server.api_url)
        prefect.before = busy
        sweep = sweeping(sandbox.url, api_url=prefect.url, PREFECT_CLIENT_MAX_RETRIES="0")
        assert sweep.wait() == 0, sweep.said
        assert len(refused) == 3
        assert artifacts.open_intents(sandbox.url) == []


async def test_a_retried_flow_reports_its_own_cancels_as_its_own(prefect_server, stuck, artifacts):
    world = stuck(2)
    first, second = world.stale()
    world.troubles.add(f"cancel:{second}:400@1")
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)

        @flow(retries=1)
        async def twice():
            (one, other) = [await cancel_run(credentials, run_id) for run_id in (first, second)]
            if other.outcome is not Outcome.CANCELLED:
                raise RuntimeError(other.reason)
            return one

        cancellation = await twice()
    assert cancellation.outcome is Outcome.CANCELLED
    assert cancellation.record is not None
    assert artifacts.holds_each_once(world)


async def test_runs_named_again_are_asked_though_they_are_pending(prefect_server, stuck, artifacts):
    world = stuck(1, behaviour=Behaviour(cancel="never"))
    (run_id,) = world.stale()
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)
        with pytest.raises(SweepFailed):
            await cancel_stale_runs(credentials, policy=StalePolicy(confirm_seconds=1))
        world.get(run_id).cancel_mode = "at_once"
        report = await cancel_runs(credentials, [run_id])
        assert report.counts == {Outcome.CANCELLED: 1}
        assert artifacts.open_intents(sandbox.url) == []


@pytest.mark.parametrize(("run_ids", "why"), [([], "no run ids were given"), (["clr_nobody"], "Extend knows none")])
async def test_naming_no_run_that_is_there_ends_failed(prefect_server, stuck, run_ids, why):
    with serve(stuck(1)) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)
        with pytest.raises(SweepFailed, match=why):
            await cancel_runs(credentials, run_ids)
