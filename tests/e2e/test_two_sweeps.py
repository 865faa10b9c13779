"""Two sweeps at once are harmless: to the runs, to the records, and to each other."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client

from prefect_extend_ai import Cancellation, ExtendCredentials, Outcome, Run
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import serve
from prefect_extend_ai.sweep.journal import Scope


@pytest.mark.parametrize("machines", ["one machine", "two machines"])
def test_two_sweeps_at_once_ask_and_record_each_run_once(prefect_server, sweeping, kept, tmp_path, machines):
    (artifacts, stuck) = kept
    world = stuck(60, requests_per_second=40)
    with serve(world) as sandbox:
        places = [{}, {}]
        if machines == "two machines":
            # Each sees its own signs of life only, and goes by the journal.
            for number, place in enumerate(places):
                place["TMPDIR"] = str(tmp_path / str(number))
                (tmp_path / str(number)).mkdir()
        sweeps = [sweeping(sandbox.url, rate=20, **place) for place in places]
        assert [each.wait(120) for each in sweeps] == [0, 0], [each.said for each in sweeps]
        assert world.stale() == []
        assert artifacts.holds_each_once(world)
        assert artifacts.open_intents(sandbox.url) == []
        assert sum(entry.operation == "cancel" for entry in world.journal) == 60


async def test_two_flows_of_one_process_ask_and_record_once(prefect_server, artifacts, stuck):
    world = stuck(25)
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=200)
        reports = await asyncio.gather(*(cancel_stale_runs(credentials) for _ in range(2)))
        assert world.stale() == []
        assert artifacts.holds_each_once(world)
        for report in reports:
            assert set(report.counts) <= {Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.DEFERRED}
        assert sum(report.counts[Outcome.CANCELLED] for report in reports) == 25
        assert artifacts.open_intents(sandbox.url) == []


async def test_two_sweeps_may_complete_the_same_intent_at_once(prefect_server, artifacts):
    scope = Scope(kind=RunKind.CLASSIFY, api_url=f"https://{uuid4()}.example.com")
    async with get_client() as client:
        dead, first, second = (PrefectJournal(client, scope, flow_run_id=None) for _ in range(3))
        await dead.log(["clr_1", "clr_2"])
        (note, again) = [
            next(each for each in await journal.pending() if each.scope == scope) for journal in (first, second)
        ]
        assert note == again
        await first.complete(note, {})
        await second.complete(again, {})
        await asyncio.gather(first.finish(), second.finish())
    assert artifacts.open_intents(scope.api_url) == []


async def test_what_a_sweep_recorded_before_it_was_killed_is_known(prefect_server):
    # It recovered the same run, and was killed between the record and the completion of its intent.
    scope = Scope(kind=RunKind.CLASSIFY, api_url=f"https://{uuid4()}.example.com")
    run = Run.from_text(RunKind.CLASSIFY, '{"id": "clr_1", "status": "CANCELLED"}')
    async with get_client() as client:
        killed, alive = (PrefectJournal(client, scope, flow_run_id=uuid4()) for _ in range(2))
        its = await killed.log(["clr_1"])
        await killed.record(its, [(run, Cancellation(run_id="clr_1", outcome=Outcome.CANCELLED, reason=""))])
        ours = await alive.log(["clr_1", "clr_2"])
        assert await alive.contested(ours) == set()
        assert await alive.recorded_elsewhere(ours) == {"clr_1"}
        for journal, intent in ((killed, its), (alive, ours)):
            await journal.complete(intent, {})
            await journal.finish()
