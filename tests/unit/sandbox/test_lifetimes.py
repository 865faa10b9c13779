"""Runs as an account has them: the speeds and the outage that were asked for."""

from __future__ import annotations

import statistics
from datetime import timedelta

import pytest

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox.lifetimes import Speed

MINUTE = timedelta(minutes=1)


def took(world, processor_number=None):
    """The durations of finished runs in minutes, by processor."""
    found = {}
    for record in world.runs.values():
        if record.status == "PROCESSED" and not record.raw.get("reviewed"):
            name = record.processor.id if record.processor else None
            found.setdefault(name, []).append((record.updated_at - record.created_at) / MINUTE)
    return found


@pytest.mark.parametrize("kind", RunKind)
def test_each_processor_has_the_speed_asked_for(still, kind):
    world = still()
    world.live(kind, runs=4000, speeds=[Speed(3, 0.2), Speed(30, 0.2)])
    medians = sorted(statistics.median(each) for each in took(world).values())
    expected = [3, 30] if kind.processor else [statistics.median([3, 30])]
    assert len(medians) == len(expected)
    if kind.processor:
        assert medians == [pytest.approx(3, rel=0.1), pytest.approx(30, rel=0.1)]


def test_more_speeds_than_desks_make_more_processors(still):
    world = still()
    world.live(runs=500, speeds=[Speed(5)] * 5)
    assert len(took(world)) == 5
    assert all(name.startswith("cl_") for name in took(world))


def test_what_was_submitted_lately_still_runs_and_ends_by_itself(still):
    world = still()
    world.live(runs=300, days=1, speeds=[Speed(60, 0)])
    going = [run_id for run_id, record in world.runs.items() if record.status == "PROCESSING"]
    assert 3 < len(going) < 40
    world.advance(minutes=60)
    assert {world.get(run_id).status for run_id in going} <= {"PROCESSED", "FAILED"}


def test_in_an_outage_nothing_ends_and_afterwards_all_of_it_does(still):
    world = still()
    world.live(runs=3000, days=1, speeds=[Speed(5, 0.3)], outage=(600, 360))
    ended = [
        (world.now() - record.updated_at) / MINUTE
        for record in world.runs.values()
        if record.status in {"PROCESSED", "FAILED"} and not record.raw.get("reviewed")
    ]
    assert not [ago for ago in ended if 360 < ago < 600]
    assert len([ago for ago in ended if 320 < ago <= 360]) > 300
    assert max(max(each) for each in took(world).values()) > 200
    assert all(record.created_at <= record.updated_at for record in world.runs.values())


def test_the_same_seed_makes_the_same_life(still):
    texts = []
    for seed in (1, 1, 2):
        world = still(seed=seed)
        world.live(runs=50, seed=seed)
        texts.append([world.text(run_id) for run_id in world.runs])
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("text", ["", "fast", "0", "-3", "3~x", "3~-1", "3~0.5~0", "1~1~1~1", "inf", "nan"])
def test_a_speed_that_cannot_be_read_is_refused(text):
    with pytest.raises(ExtendInputError, match="is not a speed"):
        Speed.parse(text)


def test_a_speed_is_a_median_a_spread_and_a_share():
    assert Speed.parse("12") == Speed(12)
    assert Speed.parse("12~0.3") == Speed(12, 0.3)
    assert Speed.parse("12~0.3~4") == Speed(12, 0.3, 4)


@pytest.mark.parametrize("outage", [(10, 20), (10, 10), (10, -1)])
def test_an_outage_that_ends_before_it_begins_is_refused(still, outage):
    with pytest.raises(ExtendInputError, match="an outage is from more minutes ago"):
        still().live(runs=1, outage=outage)
