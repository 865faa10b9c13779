"""Surveys of a sandbox with its own clock: outages are played through, and wrong clocks cancel nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from prefect_extend_ai.errors import ExtendRefusedError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Behaviour
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.rules.staleness import skip_reason
from prefect_extend_ai.sweep.scan import Target, guarded_scan
from prefect_extend_ai.sweep.stop import Stop
from support.in_process import SandboxAccount
from support.stopping import stops_after

FAR = "2099-01-01T00:00:00Z"
EVERY = 15
"""Minutes from one sweep to the next."""
NO_POLICY = StalePolicy()


class Account(SandboxAccount):
    """An account at a sandbox, and what its sweeps did."""

    def __init__(self, kind="classify", **behaviour):
        super().__init__(kind, behaviour=Behaviour(**behaviour))
        self.cancelled = []
        self.refusals = []

    def client_ahead(self, ours_ahead):
        return self.client(wall_clock=(self.world.now() + ours_ahead).timestamp)

    async def look(self, policy=NO_POLICY, limit=60, stop=None):
        async with self.client() as client:
            return await guarded_scan(client, self.kind, limit, policy, stop=stop)

    async def sweep(self, policy=NO_POLICY):
        """What a sweep cancels, at the sandbox's door."""
        survey = await self.look(policy)
        self.refusals.append(survey.refusal)
        for target in survey.stale if survey.refusal is None else []:
            self.world.cancel(self.world.get(target.run_id))
            self.cancelled.append(target.run_id)


def healthy(account, number, **facts):
    """A run that is finished two minutes later."""
    return account.add(plan=[(120, "PROCESSED")], **facts)


async def play(account, policies, runs_at, *, hours_down=8):
    """Two good hours, an outage, two good hours again; what was cancelled while it lasted."""
    down_from, up_from = 2 * 60, (2 + hours_down) * 60
    before = 0
    for minute in range(0, up_from + 2 * 60, EVERY):
        for number, facts in enumerate(runs_at):
            if down_from <= minute < up_from:
                # Every other run fails at once, as they do in an outage: 500s inside, FAILED outside.
                account.add(**facts)
                account.add("FAILED", failure_reason="INTERNAL_ERROR", **facts)
            else:
                healthy(account, number, **facts)
        account.world.advance(minutes=EVERY)
        for policy in policies:
            await account.sweep(policy)
        if minute + EVERY == up_from:
            before = len(account.cancelled)
    return before


async def test_an_outage_of_hours_below_the_threshold_is_stopped():
    account = Account()
    cancelled = await play(account, [NO_POLICY], [{}] * 19)
    assert cancelled == 19  # of 608: the first nineteen, before twenty in all were reached
    # And its end: with no setting touched, what hangs is cancelled once fresh runs finish.
    assert account.refusals[-1] is None
    assert account.world.stale() == []
    assert len(account.cancelled) == 19 * 8 * 60 / EVERY
    refused = [why for why in account.refusals if why]
    assert len(refused) == 27  # every sweep from the second with stale runs to the outage's end
    assert all("Extend seems to be down" in why for why in refused)


async def test_an_outage_sliced_by_processor_is_one_outage():
    account = Account()
    names = [f"cl_{n}" for n in range(6)]
    policies = [StalePolicy(only_processors=[name]) for name in names]
    cancelled = await play(account, policies, [{"processor": name} for name in names] * 3, hours_down=2)
    assert cancelled <= 19
    assert account.world.stale() == []


@pytest.mark.parametrize("by", ["source", "batch_id", "file_name_contains", "except_processors", "hold"])
async def test_an_outage_sliced_by_any_filter_is_one_outage(by):
    account = Account()
    facts = {
        "source": [{"source": name} for name in ("API", "STUDIO", "WORKFLOW_RUN")],
        "batch_id": [{"batch_id": name} for name in ("bpr_1", "bpr_2", "bpr_3")],
        "file_name_contains": [{"file_name": f"{name}.pdf"} for name in ("one", "two", "three")],
        "except_processors": [{"processor": name} for name in ("cl_1", "cl_2", "cl_3")],
        "hold": [{"metadata": {"prefect_hold": n > 0}} for n in range(3)],
    }[by]
    policy = {
        "source": {"source": "API"},
        "batch_id": {"batch_id": "bpr_1"},
        "file_name_contains": {"file_name_contains": "one"},
        "except_processors": {"except_processors": ["cl_2", "cl_3"]},
        "hold": {},
    }[by]
    for number in range(21):
        account.add(age_minutes=90, **facts[number % 3])
    survey = await account.look(StalePolicy(**policy))
    assert len(survey.stale) == 7
    assert "21 runs are stale" in survey.refusal or "20 runs are stale" in survey.refusal


@pytest.mark.parametrize("cancel", ["at_once", "aborted"])
@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("kind", RunKind)
async def test_what_anybody_cancelled_counts_however_it_is_shown(kind, cancel, moves):
    if kind is RunKind.WORKFLOW and cancel == "aborted":
        return  # its summary does not say why it failed; CANCELLED and CANCELLING are its own statuses
    account = Account(kind, cancel=cancel, cancel_moves_updated_at=moves)
    for _ in range(19):
        record = account.world.get(account.add(age_minutes=70))
        account.world.cancel(record)
    for _ in range(30):
        account.add("FAILED", age_minutes=1, failure_reason="INTERNAL_ERROR")
    assert (await account.look()).refusal is None  # nothing is stale, and nothing more is asked
    assert account.asked == ["PROCESSING"]
    account.add(age_minutes=61)
    assert "1 run is stale, 19 or more were cancelled" in (await account.look()).refusal
    account.add("PROCESSED", age_minutes=3)
    assert (await account.look()).refusal is None


async def test_a_cancel_that_hangs_counts_too():
    account = Account("workflow", cancel="cancelling", cancel_seconds=100_000)
    for _ in range(19):
        account.world.cancel(account.world.get(account.add(age_minutes=70)))
    account.add(age_minutes=70)
    assert "19 or more were cancelled" in (await account.look()).refusal


@pytest.mark.parametrize("kind", ["classify", "parse", "workflow"])
async def test_no_false_sign_of_life_is_believed(kind):
    account = Account(kind)
    for number in range(20):
        account.add(age_minutes=61 + number)
    for _ in range(30):
        account.add("PROCESSED", updated_minutes=1, created_minutes=5000)  # edited without a word
        account.add("PROCESSED", updated_minutes=1, created_minutes=90, edited=True)
        account.add("PROCESSED", updated_minutes=1, created_minutes=90, reviewedAt="2026-03-02T05:59:00Z")
        account.add("PROCESSED", age_minutes=90, updatedAt=FAR)
        account.add("PROCESSED", age_minutes=1, createdAt=FAR)
        account.add("FAILED", age_minutes=1, failure_reason="INTERNAL_ERROR")
    assert "Extend seems to be down" in (await account.look()).refusal
    # Behind all of them: one that was finished within the limit.
    account.add("PROCESSED", updated_minutes=59, created_minutes=62)
    assert (await account.look()).refusal is None


async def test_limits_by_processor_say_what_is_stale():
    account = Account()
    for number in range(30):
        account.add(age_minutes=90, processor="cl_slow" if number else "cl_fast")
    policy = StalePolicy(minutes_by_processor={"cl_slow": 600})
    assert (await account.look(policy)).refusal is None
    assert (await account.look()).refusal


@pytest.mark.parametrize(
    ("stale", "cancelled", "asked"),
    [
        (0, 0, ["PROCESSING"]),
        (0, 40, ["PROCESSING"]),
        (1, 0, ["PROCESSING", "CANCELLED", "FAILED", "CANCELLING"]),
        (19, 0, ["PROCESSING", "CANCELLED", "FAILED", "CANCELLING"]),
        (19, 40, ["PROCESSING", "CANCELLED", "PROCESSED"]),
        (1, 400, ["PROCESSING", "CANCELLED", "PROCESSED"]),
        (20, 40, ["PROCESSING", "PROCESSED"]),
    ],
)
async def test_no_more_is_asked_than_can_matter(stale, cancelled, asked):
    account = Account()
    for number in range(stale):
        account.add(age_minutes=90 + number)
    for number in range(cancelled):
        account.add("CANCELLED", age_minutes=number / 10)
        account.add("CANCELLED", age_minutes=300 + number)
    for number in range(300):
        account.add("PROCESSED", age_minutes=number)
        account.add("FAILED", age_minutes=400 + number, failure_reason="INTERNAL_ERROR")
    assert (await account.look(StalePolicy(learn_limits=False))).refusal is None
    assert account.asked == asked
    account.world.journal.clear()
    assert (await account.look(StalePolicy(outage_guard=False, learn_limits=False))).refusal is None
    assert account.asked == ["PROCESSING"]


async def test_a_listing_in_no_order_is_read_a_bounded_way():
    account = Account("parse")
    account.add(age_minutes=90)
    for number in range(3000):
        account.add("CANCELLED", age_minutes=300 + number)
    assert (await account.look()).refusal is None
    assert len(account.asked) == 1 + 10 + 1 + 1


@pytest.mark.parametrize("kind", ["classify", "parse"])
async def test_a_status_that_a_listing_refuses_is_counted_without(kind):
    # Whether parse runs can be listed by CANCELLED is not documented.
    account = Account(kind)
    account.world.troubles.add(f"list:{kind}:400@2")
    account.add(age_minutes=90)
    for _ in range(19):
        account.add("CANCELLED", age_minutes=10)
    for _ in range(10):
        account.add("FAILED", age_minutes=5, failure_reason="INTERNAL_ERROR")
    assert "19 or more were cancelled" in (await account.look()).refusal
    account.add("PROCESSED", age_minutes=5)
    account.world.troubles.add(f"list:{kind}:400@1-")
    with pytest.raises(ExtendRefusedError):
        await account.look()


async def test_a_server_that_ignores_sorting_hides_no_cancels():
    account = Account(sorts=False)
    for number in range(25):
        account.add("CANCELLED", age_minutes=10 + number)
    account.add(age_minutes=90)
    assert (await account.look()).refusal


async def test_a_clock_of_extend_that_is_off_makes_the_guard_no_bolder():
    for ahead in (120, -120):
        account = Account(date_ahead_minutes=ahead)
        for _ in range(20):
            account.add(age_minutes=600)
        account.add("PROCESSED", age_minutes=1)
        assert (await account.look()).refusal


async def test_a_sweep_stopped_while_the_guard_reads_selects_nothing():
    for stale in (1, 20):
        account = Account()
        for _ in range(stale):
            account.add(age_minutes=90)
        stop = Stop()
        account.permit = stops_after(1, account.world, stop)
        survey = await account.look(stop=stop)
        assert (survey.unfinished, survey.refusal, survey.stale) == ("the sweep took too long", None, [])
        assert len(account.asked) == 1


async def test_more_than_refuse_above_asks_nothing_more():
    account = Account()
    for _ in range(3):
        account.add(age_minutes=90)
    assert "refuse_above" in (await account.look(StalePolicy(refuse_above=2))).refusal
    assert account.asked == ["PROCESSING"]


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize(("date_ahead", "ours_ahead"), [(120, 0), (0, 120), (-120, 0), (0, -120), (120, 120)])
async def test_one_wrong_clock_makes_no_healthy_run_stale(kind, date_ahead, ours_ahead):
    account = Account(kind, date_ahead_minutes=date_ahead)
    young, old = account.add(age_minutes=2), account.add(age_minutes=200)
    policy = StalePolicy(max_total_minutes=90)
    async with account.client_ahead(timedelta(minutes=ours_ahead)) as client:
        survey = await guarded_scan(client, kind, 60, policy)
        checked = await client.get_run(young, kind)
        listed = {run.id: Target.of(run) for page in [p async for p in client.iter_pages(kind)] for run in page.runs}
        assert await client.get_run(old, kind)
    both_wrong = date_ahead and ours_ahead
    assert {target.run_id for target in survey.stale} == ({young, old} if both_wrong else {old})
    assert (skip_reason(checked, listed[young], 60, policy) is None) == bool(both_wrong)
    if not both_wrong:
        assert survey.clocks.seconds == pytest.approx((date_ahead - ours_ahead) * 60, abs=2)
        # The young run changed two minutes ago: which clock is wrong is known in all four cases.
        assert survey.clocks.suspect == ("extend" if date_ahead else "ours")


async def test_our_clock_far_behind_selects_nothing_and_says_so():
    account = Account()
    account.add(age_minutes=200)
    async with account.client_ahead(timedelta(days=-300)) as client:
        survey = await guarded_scan(client, account.kind, 60, NO_POLICY)
    assert survey.stale == []
    assert survey.clocks.suspect == "ours"


@pytest.mark.parametrize("kind", ["classify", "extract", "workflow"])
async def test_cancels_that_hang_count_towards_an_outage(kind):
    account = Account(kind, cancel="cancelling")
    for _ in range(15):
        account.add("CANCELLING", age_minutes=20)
    for number in range(5):
        account.add(age_minutes=90 + number)
    assert "Extend seems to be down" in (await account.look()).refusal


async def test_a_frozen_last_change_does_not_blind_the_guard():
    account = Account()
    for number in range(15):
        account.add("CANCELLED", age_minutes=301 + number)
    for number in range(5):
        account.add(age_minutes=330 + number)
    assert "Extend seems to be down" in (await account.look(limit=300)).refusal
