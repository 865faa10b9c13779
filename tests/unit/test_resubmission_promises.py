"""Nothing is submitted twice, and nothing that is to be submitted again is lost silently: over random schedules.

Lost responses, listings that lag, runs that appear late, sweeps that are killed between any two steps, stopped or
without a journal, and two sweeps at once on one Prefect. `make prove` tries ten thousand schedules.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_extend_ai.sweep.rules.staleness import StalePolicy
from support.schedules import Drawn, Schedule
from support.virtual_time import VirtualLoop

ATTEMPTS = Drawn.resubmit
POLICY = StalePolicy(resubmit=ATTEMPTS, outage_guard=False, learn_limits=False)
LOST = ["reset", "502", "html", "redirect"]
CREATES = ["", "", *LOST, *(f"{each}-after" for each in LOST), "400", "409-after", "429", "unsent"]

RUNS = st.fixed_dictionaries(
    {
        "cancel_mode": st.sampled_from(["at_once"] * 4 + ["later", "on_get", "aborted", "finishes", "never"]),
        "cancel_seconds": st.sampled_from([0.2, 2.0, 70.0]),
        "cancels": st.lists(st.sampled_from(["", "reset", "reset-after", "400", "429", "400-after"]), max_size=2),
        "creates": st.lists(st.sampled_from(CREATES), max_size=2),
        "source": st.sampled_from(["API"] * 5 + ["WORKFLOW_RUN"]),
        "file_name": st.sampled_from(["document.pdf"] * 5 + [None]),
        "metadata": st.sampled_from(
            [
                None,
                {"owner": "a"},
                {"owner": "x" * 9_990},
                {
                    "prefect_extend_resubmit_of": "clr_before",
                    "prefect_extend_first_run": "clr_before",
                    "prefect_extend_attempt": ATTEMPTS,
                },
            ]
        ),
    }
)


SWEEPS = st.builds(
    Drawn,
    die_at=st.none() | st.integers(1, 120),
    stop_after=st.none() | st.sampled_from([0.0, 0.5, 2.0, 8.0]),
    fails=st.dictionaries(st.integers(1, 20), st.sampled_from(["before", "after"]), max_size=2),
    down_from=st.none() | st.none() | st.integers(1, 20),
    batch=st.integers(1, 4),
    seed=st.integers(0, 1000),
    dry_run=st.sampled_from([False] * 6 + [True]),
    resubmit=st.sampled_from([ATTEMPTS] * 5 + [0]),
)
ROUNDS = st.lists(st.lists(SWEEPS, min_size=1, max_size=2), min_size=1, max_size=3)
WORLDS = st.fixed_dictionaries(
    {
        "list_lag_seconds": st.sampled_from([0, 0, 3, 20, 4000]),
        "create_seconds": st.sampled_from([0, 0, 3, 20, 4000]),
        "cancel_moves_updated_at": st.booleans(),
        "reuses_files": st.sampled_from([True, True, True, False]),
        "keeps_version": st.booleans(),
    }
)


class Promises(Schedule):
    """Holds every sweep to the promises."""

    def __init__(self, loop, runs, **options):
        super().__init__(loop, runs, created_run_seconds=None, **options)
        self.extend.add("clr_before", status="CANCELLED")
        self.reported = {}

    def policy(self, drawn):
        return POLICY.model_copy(update={"resubmit": drawn.resubmit})

    async def conduct(self, engine, process, drawn):  # noqa: ARG002
        await engine.recover()
        selection = await engine.select()
        parts = engine.divide(selection.targets)
        done = []
        if not drawn.dry_run:
            sizes = range(0, len(parts.to_ask), drawn.batch)
            batches = [parts.to_ask[start : start + drawn.batch] for start in sizes]
            done = [each for batch in await asyncio.gather(*map(engine.cancel_batch, batches)) for each in batch]
            await engine.recover_more(450)
            await engine.resubmit_earlier()
        await engine.finish()
        for each in [*done, *engine.resubmissions]:
            self.hear(each)
        return done

    def hear(self, said):
        """Remember what a report says of a document, and hold it against what there is."""
        if said.resubmission is not None:
            self.reported.setdefault(said.run_id, []).append(said.resubmission)
        if said.resubmission == "submitted":
            assert said.resubmitted_as in self.extend.successors[said.run_id], said
        if said.resubmission == "given_up":
            assert said.attempt > ATTEMPTS, said

    def check(self):
        """At most one successor for a run, and none of what was to have one is lost silently."""
        extend = self.extend
        assert not extend.violations, extend.violations
        for run_id, new in extend.successors.items():
            assert len(new) <= 1, f"{run_id} was submitted {len(new)} times"
        open_ = {run_id for each in self.prefect.intents.values() for run_id in each.resubmit}
        for run_id in self.to_be_reported():
            known = (
                extend.successors[run_id] or run_id in self.reported or run_id in open_ or self.is_in_a_record(run_id)
            )
            assert known, f"{run_id} is lost: {extend.find(run_id)}, cancelled by {extend.cancelled_by[run_id]}"

    def is_in_a_record(self, run_id):
        """Whether its record, or its intent, says that it is not submitted again: its sweep died before its report."""
        refused = {
            *self.prefect.refused,
            *(id_ for each in self.prefect.intents.values() for id_ in each.not_resubmitted),
        }
        return self.prefect.decided.get(run_id) is not None or run_id in refused

    def to_be_reported(self):
        """The runs that sweeps have cancelled which were to submit them again."""
        for run_id in list(self.extend.cancelled_by):
            run = self.extend.find(run_id)
            asked = all(name in self.asking for name in self.extend.cancelled_by[run_id])
            if run is not None and asked and (run.status == "CANCELLED" or run.state.failure_reason == "ABORTED"):
                yield run_id

    async def calm_down(self, rounds):
        """Undisturbed sweeps for a day: then nothing is open but what never ends."""
        self.extend.meanwhile.clear()
        for _ in range(rounds):
            await asyncio.sleep(3700)
            assert await self.sweep(Drawn()) is not None
            self.check()


def live(runs, rounds, *, one_machine=True, calm=6, **behaviour):
    loop = VirtualLoop()
    schedule = Promises(loop, runs, one_machine=one_machine, **behaviour)
    numbers = [drawn for sweeps in rounds for drawn in sweeps]
    # Sweeps are named in the order in which they begin.
    schedule.asking = {f"sweep-{n}" for n, drawn in enumerate(numbers, start=1) if drawn.resubmit}
    schedule.asking |= {f"sweep-{n}" for n in range(len(numbers) + 1, len(numbers) + calm + 1)}

    async def story():
        for sweeps in rounds:
            await asyncio.gather(*(schedule.sweep(drawn) for drawn in sweeps))
            schedule.check()
            await asyncio.sleep(120)
        await schedule.calm_down(calm)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story())
    return schedule


FAST = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
)


@FAST
@given(st.lists(RUNS, min_size=1, max_size=5), ROUNDS, st.booleans(), WORLDS)
def test_nothing_is_submitted_twice_and_nothing_is_lost(runs, rounds, one_machine, world):
    live(runs, rounds, one_machine=one_machine, **world)


@FAST
@given(st.lists(RUNS, min_size=1, max_size=3), SWEEPS, st.integers(1, 150), WORLDS)
def test_killed_at_any_step_a_sweep_submits_nothing_twice(runs, drawn, die_at, world):
    live(runs, [[replace(drawn, die_at=die_at, stop_after=None, fails={}, down_from=None)]], **world)


def test_a_quiet_schedule_submits_each_again_and_gives_up():
    schedule = live([{}, {}, {"source": "WORKFLOW_RUN"}], [[Drawn()]], calm=6)
    first = ["clr_0", "clr_1"]
    second = [schedule.extend.successors[run_id][0] for run_id in first]
    third = [schedule.extend.successors[run_id][0] for run_id in second]
    reported = {run_id: schedule.reported[run_id] for run_id in [*first, *second, *third, "clr_2"]}
    assert reported == {
        **{run_id: ["submitted"] for run_id in [*first, *second]},
        **{run_id: ["given_up"] for run_id in third},
        "clr_2": ["ineligible"],
    }
    assert sum(map(len, schedule.extend.successors.values())) == 4
    assert schedule.prefect.intents == {}


@pytest.mark.parametrize("one_machine", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_two_sweeps_at_once_submit_each_once(seed, one_machine):
    sweeps = [Drawn(seed=seed), Drawn(seed=seed + 100)]
    schedule = live([{} for _ in range(8)], [sweeps], one_machine=one_machine, calm=0)
    assert [len(schedule.extend.successors[f"clr_{n}"]) for n in range(8)] == [1] * 8
    assert [schedule.reported[f"clr_{n}"] for n in range(8)] == [["submitted"]] * 8


def test_a_lost_create_is_unknown_once_and_never_sent_again():
    schedule = live([{"creates": ["reset"]}], [[Drawn()]], calm=30)
    assert schedule.extend.successors["clr_0"] == []
    assert set(schedule.reported["clr_0"]) == {"unknown"}
    assert schedule.prefect.intents == {}


def test_what_extend_refused_is_sent_by_no_other_sweep_at_work():
    """A gateway that sent a create twice shows the refusal of the second, and the listing does not show the first."""
    two = [Drawn(batch=1), Drawn(batch=2)]
    stopped = [Drawn(fails={1: "before"}, batch=1), Drawn(stop_after=2.0, batch=1, seed=3)]
    schedule = live([{}, {}, {"creates": ["409-after"]}], [stopped, two], one_machine=False, list_lag_seconds=4000)
    assert schedule.reported["clr_2"] == ["ineligible"]


def test_a_killed_sweep_s_plan_outlives_another_s_record():
    """The other had listed it in progress, found it cancelled, and could not know by whom."""
    killed = [Drawn(batch=1, seed=3), Drawn(die_at=16, batch=2, seed=1)]
    schedule = live([{}, {}], [[Drawn(fails={1: "before"})], killed])
    assert [len(schedule.extend.successors[run_id]) for run_id in ("clr_0", "clr_1")] == [1, 1]


def test_a_create_that_shows_late_is_found_by_a_later_sweep():
    schedule = live([{"creates": ["reset-after"]}], [[Drawn()]], calm=2, create_seconds=4000)
    assert schedule.reported["clr_0"][0] == "unknown"
    assert schedule.reported["clr_0"][-1] == "submitted"
    assert len(schedule.extend.successors["clr_0"]) == 1


def test_outcomes_without_our_cancel_submit_nothing():
    runs = [{"cancel_mode": "finishes"}, {"cancel_mode": "never"}, {"gets": ["finish"]}, {"held": True}]
    schedule = live(runs, [[Drawn()]], calm=0)
    assert not any(schedule.extend.successors.values())
