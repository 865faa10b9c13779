"""Names of flow runs, and the strip of bars."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.rendering.names import name_at_end, name_at_start
from prefect_extend_ai.rendering.strip import BAR, STEP, TALLEST, strip_section
from prefect_extend_ai.sweep.history import SWEEPS, PastSweep
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel, SweepReport

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def report(*outcomes, **facts):
    ended = [Cancellation(run_id=f"exr_{n}", outcome=outcome, reason="") for n, outcome in enumerate(outcomes)]
    return SweepReport(**{"kind": "extract", "limit_minutes": 60} | facts).with_cancellations(ended)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({}, "acme extract"),
        ({"by_id": True}, "acme extract by id"),
        ({"dry_run": True}, "acme extract dry run"),
        ({"whose": None}, "extend extract"),
    ],
)
def test_a_flow_run_is_named_by_what_it_is(facts, name):
    assert name_at_start(**{"whose": "acme", "kind": "extract"} | facts) == name


CANCELLED = [Outcome.CANCELLED] * 40
RECOVERED = Cancellation(run_id="exr_old", outcome=Outcome.CANCELLED, reason="")
PENDING = PendingCancel(run_id="exr_old", since=NOON)


@pytest.mark.parametrize(
    ("done", "name"),
    [
        (report(*CANCELLED), "acme: cancelled 40 of 40"),
        (report(*CANCELLED, Outcome.ERROR), "acme: cancelled 40 of 41, 1 failed"),
        (report(Outcome.WOULD_CANCEL, dry_run=True), "acme: would cancel 1 of 1"),
        (report(*[Outcome.DEFERRED] * 6000, refusal="too many"), "acme: cancelled 0 of 6,000"),
        (report(Outcome.DEFERRED, trouble="lost"), "acme: cancelled 0 of 1, stopped early"),
        (report(trouble="401"), "acme: nothing cancelled"),
        (
            report(recovered=[RECOVERED] * 3, pending=[PENDING]),
            "acme: recorded 3 of an earlier sweep, 1 pending",
        ),
        (report(skipped="late"), "acme: skipped"),
        (report(exempt={"too_young": 9}), "acme"),
    ],
)
def test_and_at_its_end_by_what_it_did(done, name):
    assert name_at_end("acme", done) == name


def bars(text):
    """Of each colour, which sweeps have a bar, and how high."""
    svg = b64decode(re.search(r"base64,([^)]+)\)", text)[1]).decode()
    found = {}
    for path in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        drawn = re.findall(rf"M(\d+) \d+h{BAR}v-(\d+)", path.get("d"))
        found[path.get("fill")] = {(int(left) - 44) // STEP: int(height) for left, height in drawn}
    return found


def test_the_strip_shows_each_sweep_in_its_colours():
    past = [PastSweep(NOON), PastSweep(NOON, 40, 40), PastSweep(NOON, 20, 10, 10, alarm=True)]
    text = strip_section(past)
    assert bars(text) == {
        "#7f93a8": {1: TALLEST, 2: TALLEST // 2},
        "#2f7d5b": {1: TALLEST, 2: TALLEST // 4},
        "#c0392b": {2: TALLEST // 4},
        "#a93226": {},
        None: {},
    }
    assert "60 stale, 50 cancelled, 10 failed in 3 sweeps" in text
    assert "1 of the sweeps ended Failed" in text


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 3, st.booleans()), max_size=40))
def test_a_strip_is_small_and_well_formed(rows):
    past = [PastSweep(NOON + timedelta(minutes=15 * n), *row) for n, row in enumerate(rows)]
    text = strip_section(past)
    assert bool(text) is (len(past) > 1)
    assert len(text) < 6000
    if text:
        assert f"### Last {min(len(past), SWEEPS)} sweeps" in text
        assert all(place < SWEEPS and height <= TALLEST for of in bars(text).values() for place, height in of.items())
