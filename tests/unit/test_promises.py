"""The promises of a sweep, over random schedules of troubles, crashes, failing journals and sweeps at once.

Each schedule is lived through in virtual time: up to three sweeps, alone or two at once, any of which may be killed
between any two steps, stopped, or lose its journal; then undisturbed ones until nothing is left open. `make prove`
tries ten thousand schedules.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.attempt import LAST_READ_SECONDS, TURN_SECONDS
from prefect_extend_ai.sweep.decision import MAX_ATTEMPTS
from prefect_extend_ai.sweep.recorder import RECORD_PATIENCE
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.rules.staleness import StalePolicy
from prefect_extend_ai.sweep.scan import guarded_scan
from support.extend import TERMINAL
from support.schedules import Drawn, Schedule
from support.virtual_time import VirtualLoop

CONFIRM_SECONDS = 60
LONGEST_READ = 30
"""Seconds that an answer is held back at the most."""
LONGEST_SWEEP = 3 * (TURN_SECONDS + CONFIRM_SECONDS + LAST_READ_SECONDS + LONGEST_READ + RECORD_PATIENCE)
"""Seconds of virtual time: three rounds of batches at once, each at its slowest."""
POLICY = StalePolicy()
MODES = ["at_once", "at_once", "later", "on_get", "cancelling", "aborted", "finishes", "never"]
LOST = ["reset", "502", "html", "redirect"]
# A gateway that sends a cancel twice shows the refusal of the second: the first has taken.
CANCELS = [*LOST, *(f"{each}-after" for each in LOST), "400", "409", "429", "404", "400-after", "404-after", ""]
CHANGES = ["touch", "hold", "finish", "status=QUARANTINED", "gone"]
GETS = [*[""] * 5, "reset", "502", "html", "404", *CHANGES]
HOLDS = [(0, 0)] * 6 + [(12, 0), (0, 12), (25, 0), (0, LONGEST_READ)]
LEAVES = ["", "", "", "", "connecting", "stopped", "suspended"]

RUNS = st.fixed_dictionaries(
    {
        "updated": st.sampled_from([-7200.0, -7200.0, -3600.5, -3500.0, -60.0]),
        "status": st.sampled_from(["PROCESSING"] * 6 + ["PENDING", "QUEUED", "CANCELLED"]),
        "held": st.sampled_from([False] * 7 + [True]),
        "cancel_mode": st.sampled_from(MODES),
        "cancel_seconds": st.sampled_from([0.2, 2.0, 50.0, 70.0, 500.0]),
        "cancels": st.lists(st.sampled_from(CANCELS), max_size=5),
        "gets": st.lists(st.sampled_from(GETS), max_size=4),
        "holds": st.lists(st.sampled_from(HOLDS), max_size=4),
        "leaves": st.lists(st.sampled_from(LEAVES), max_size=4),
        "ends_at": st.sampled_from([None, None, None, 0.2, 1.0, 30.0, 400.0]),
    }
)


SWEEPS = st.builds(
    Drawn,
    die_at=st.none() | st.integers(1, 90),
    stop_after=st.none() | st.sampled_from([0.0, 0.2, 1.0, 5.0]),
    fails=st.dictionaries(st.integers(1, 14), st.sampled_from(["before", "after"]), max_size=3),
    down_from=st.none() | st.integers(1, 12),
    batch=st.integers(1, 6),
    shared=st.booleans(),
    seed=st.integers(0, 1000),
)
ROUNDS = st.lists(st.lists(SWEEPS, min_size=1, max_size=2), min_size=1, max_size=3)


class Promises(Schedule):
    """Holds every sweep to the promises."""

    def policy(self, drawn):  # noqa: ARG002
        return POLICY

    def options(self, drawn):
        return {"runs_a_record": 50 if drawn.shared else 1, "confirm_seconds": CONFIRM_SECONDS}

    async def conduct(self, engine, process, drawn):
        started = self.loop.time()
        asked_before = {run_id for run_id, names in self.extend.cancelled_by.items() if names}
        alone = self.prefect.alive == {process.name}
        try:
            cancellations = await self._live(engine, drawn.batch)
        finally:
            assert self.loop.time() - started < LONGEST_SWEEP, "a sweep ends"
        for cancellation in cancellations:
            self.check_true(process.name, cancellation)
        if not (drawn.fails or drawn.down_from or drawn.stop_after is not None):
            assert engine.stop.reason is None, "one run's fault stops no other"
            if alone and self.prefect.one_machine:
                self.check_reported(asked_before, engine, cancellations)
        return cancellations

    def check_reported(self, asked_before, engine, cancellations):
        """Nothing that an earlier sweep asked for and that goes on is silent."""
        reported = {each.run_id for each in engine.pending} | {each.run_id for each in cancellations}
        silent = {run_id for run_id in asked_before - reported if self.goes_on(run_id)}
        assert not silent, f"asked for, going on, and not reported: {silent}"

    def goes_on(self, run_id):
        run = self.extend.find(run_id)
        return run is not None and run.status not in TERMINAL

    async def _live(self, engine, size):
        await engine.recover()
        survey = await guarded_scan(engine.client, RunKind.CLASSIFY, 60, POLICY, stop=engine.stop)
        parts = engine.divide(survey.stale)
        at_once = asyncio.Semaphore(4)

        async def one(batch):
            async with at_once:
                return await engine.cancel_batch(batch)

        batches = [parts.to_ask[start : start + size] for start in range(0, len(parts.to_ask), size)]
        done = [each for batch in await asyncio.gather(*map(one, batches)) for each in batch]
        assert [each.run_id for each in done] == [target.run_id for target in parts.to_ask], "the counts add up"
        assert len(done) + len(parts.deferred) + parts.set_aside == len(survey.stale), "the counts add up"
        await engine.recover_more(450)
        await engine.finish()
        return [*done, *parts.deferred]

    def check_true(self, name, cancellation):
        """Hold an outcome against what Extend really did."""
        run = self.extend.runs[cancellation.run_id]
        posts = self.extend.posts[name][run.id]
        read = self.extend.reads[name].get(run.id)
        facts = f"{name} says {cancellation.outcome} of {run}; last read {read}, {posts} cancels"
        aborted = run.status == "FAILED" and run.state.failure_reason == "ABORTED"
        ours = name in self.extend.cancelled_by[run.id]
        match cancellation.outcome:
            case Outcome.CANCELLED:
                # No answer to a cancel of ours is evidence that somebody else's took, a 429 included.
                assert posts or self.extend.turned_away[name][run.id], facts
                assert run.status == "CANCELLED" or aborted, facts
            case Outcome.ALREADY_CANCELLED:
                assert run.status == "CANCELLED", facts
                assert not posts, facts
            case Outcome.FINISHED_FIRST:
                assert run.status in ("PROCESSED", "FAILED"), facts
                assert not (aborted and ours), facts
            case Outcome.SPARED:  # or refused, and no longer stale then
                assert not posts or read not in TERMINAL, facts
            case Outcome.DEFERRED:  # or throttled
                assert not ours, facts
            case Outcome.NOT_FOUND:
                assert read == "404", facts
            case Outcome.UNCONFIRMED:
                assert posts, facts
                assert read not in TERMINAL, facts
            case Outcome.REFUSED:
                assert posts, facts
                assert read not in TERMINAL, facts
            case Outcome.ERROR:
                assert posts or not ours, facts
            case _:
                pytest.fail(facts)

    async def calm_down(self):
        """Undisturbed sweeps until nothing is open: what had ended before one of them began is recorded after it."""
        self.extend.meanwhile.clear()
        for _ in range(5):
            await asyncio.sleep(600)
            ended = [run_id for run_id in self.extend.runs if self.is_ours_and_ended(run_id)]
            assert await self.sweep(Drawn()) is not None
            lost = [run_id for run_id in ended if not self.prefect.texts(run_id)]
            assert not lost, f"cancelled and lost: {[self.extend.runs[run_id] for run_id in lost]}"
        left = {run_id for note in self.prefect.intents.values() for run_id in note.run_ids}
        # Only what is gone, or never ends, stays open.
        assert not any(self.extend.is_ended(each) for each in left)

    def is_ours_and_ended(self, run_id):
        return bool(self.extend.cancelled_by[run_id]) and self.extend.is_ended(run_id)

    def check_records(self, *, once):
        for run_id, run in self.extend.runs.items():
            texts = self.prefect.texts(run_id)
            if not run.gone:
                assert all(text == self.extend.text(run_id) for text in texts), f"{run} is not what is recorded of it"
            if once:
                assert len(texts) <= 1, f"{run} is recorded {len(texts)} times"


def live(runs, rounds, *, one_machine=True, lag=0):
    loop = VirtualLoop()
    schedule = Promises(loop, runs, one_machine=one_machine, list_lag_seconds=lag)

    async def story():
        for sweeps in rounds:
            await asyncio.gather(*(schedule.sweep(drawn) for drawn in sweeps))
            await asyncio.sleep(120)
        await schedule.calm_down()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story())
    assert not schedule.extend.violations, schedule.extend.violations
    schedule.check_records(once=one_machine or all(len(sweeps) == 1 for sweeps in rounds))
    return schedule


FAST = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
)


@FAST
@given(st.lists(RUNS, min_size=1, max_size=12), ROUNDS, st.booleans(), st.sampled_from([0, 0, 20]))
def test_nothing_healthy_is_cancelled_nothing_cancelled_is_lost(runs, rounds, one_machine, lag):
    live(runs, rounds, one_machine=one_machine, lag=lag)


@FAST
@given(st.lists(RUNS, min_size=1, max_size=4), SWEEPS, st.integers(1, 150))
def test_killed_at_any_step_a_sweep_loses_nothing(runs, drawn, die_at):
    live(runs, [[replace(drawn, die_at=die_at, stop_after=None, fails={}, down_from=None)]])


def test_a_quiet_schedule_really_cancels_and_records():
    schedule = live([{}, {}, {"held": True}, {"updated": -60.0}], [[Drawn()]])
    # The young one grows stale while the undisturbed sweeps go on; the held one never is.
    statuses = Counter(run.status for run in schedule.extend.runs.values())
    assert statuses["CANCELLED"] >= 2
    assert schedule.extend.runs["clr_2"].status == "PROCESSING"
    assert len(schedule.prefect.records) == statuses["CANCELLED"]
    assert schedule.prefect.intents == {}


@pytest.mark.parametrize("one_machine", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_two_sweeps_at_once_cancel_each_run_once(seed, one_machine):
    sweeps = [Drawn(seed=seed), Drawn(seed=seed + 100)]
    schedule = live([{} for _ in range(12)], [sweeps], one_machine=one_machine)
    assert [len(names) for names in schedule.extend.cancelled_by.values()] == [1] * 12
    assert [len(schedule.prefect.texts(run_id)) for run_id in schedule.extend.runs] == [1] * 12


@pytest.mark.parametrize("ends", [{"die_at": 16}, {"down_from": 8}, {"down_from": 15}])
def test_one_that_ends_before_it_says_so_recorded_once(ends):
    # Of two sweeps that recover the same runs, one ends between a record and the completion of its intent.
    run = {"cancel_mode": "later", "cancel_seconds": 70.0}
    for seed in range(20):
        at_once = [Drawn(seed=seed, **ends), Drawn(seed=seed + 100)]
        live([run] * 4, [[Drawn(batch=1)], at_once])


@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_journal_that_takes_no_intent_means_no_cancel(fate):
    # The first call asks for open notes, every later one would write.
    drawn = Drawn(fails=dict.fromkeys(range(2, 50), fate))
    loop = VirtualLoop()
    schedule = Promises(loop, [{} for _ in range(6)], one_machine=True)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        cancellations = runner.run(schedule.sweep(drawn))
    assert [each.outcome for each in cancellations] == [Outcome.DEFERRED] * 6
    assert not schedule.extend.posts["sweep-1"]
    assert "could not be written down first" in cancellations[0].reason


def test_a_run_that_never_takes_a_cancel_gets_a_handful_of_them():
    loop = VirtualLoop()
    schedule = Promises(loop, [{"cancels": ["reset"] * 50}], one_machine=True)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        (cancellation,) = runner.run(schedule.sweep(Drawn()))
    assert cancellation.outcome is Outcome.UNCONFIRMED
    assert schedule.extend.posts["sweep-1"]["clr_0"] == MAX_ATTEMPTS
