"""Which records a purge deletes, writes again, or keeps because they are still open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.prefect_io.purging import Purge, Step, decide, without_places

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RUNS = ["clr_0", "clr_1", "clr_2", "clr_3"]


def metadata_of(run_ids, intent="mine"):
    held = {f"extend_run_{place}": run_id for place, run_id in enumerate(run_ids)}
    return {"extend_note": intent, "extend_write": "x"} | held


def decided(held, **options):
    facts = {"open_intents": (), "open_runs": ()} | options
    return decide(metadata_of(held), NOW - timedelta(days=10), **facts)


@pytest.mark.parametrize(
    ("held", "options", "expected"),
    [
        (["clr_0"], {"run_ids": ["clr_0"]}, Purge(Step.DELETE, ["clr_0"])),
        (["clr_0", "clr_1"], {"run_ids": ["clr_1"]}, Purge(Step.REWRITE, ["clr_1"])),
        (["clr_0", "clr_1"], {"run_ids": ["clr_1", "clr_0"]}, Purge(Step.DELETE, ["clr_0", "clr_1"])),
        (["clr_0"], {"run_ids": ["clr_1"]}, None),
        (["clr_0", "clr_1"], {"before": NOW}, Purge(Step.DELETE, ["clr_0", "clr_1"])),
        (["clr_0"], {"before": NOW - timedelta(days=10)}, None),
        (["clr_0"], {"run_ids": ["clr_0"], "open_runs": ["clr_0"]}, Purge(Step.KEEP_OPEN, ["clr_0"])),
        (["clr_0"], {"run_ids": ["clr_0"], "open_intents": ["mine"]}, Purge(Step.KEEP_OPEN, ["clr_0"])),
        (["clr_0"], {"before": NOW, "open_intents": ["mine"]}, Purge(Step.KEEP_OPEN, ["clr_0"])),
    ],
)
def test_each_record_meets_its_fate(held, options, expected):
    assert decided(held, **options) == expected


def test_parts_of_a_large_object_go_with_their_run():
    part = {"extend_note": "mine", "extend_part_of": "clr_0"}
    found = decide(part, NOW, open_intents=(), open_runs=(), run_ids=["clr_0"])
    assert found == Purge(Step.DELETE, ["clr_0"])


def test_an_artifact_of_somebody_else_is_never_touched():
    assert decide({"extend_run_0": "clr_0"}, NOW, open_intents=(), open_runs=(), run_ids=["clr_0"]) is None


@given(st.lists(st.sampled_from(RUNS), min_size=1, unique=True), st.sets(st.sampled_from(RUNS)), st.booleans())
def test_a_run_that_is_open_is_never_purged(held, open_runs, is_old):
    options = {"before": NOW} if is_old else {"run_ids": RUNS}
    found = decided(held, open_runs=open_runs, **options)
    assert found is not None
    assert (found.step is Step.KEEP_OPEN) == bool(open_runs & set(held))


def test_a_rewritten_record_keeps_what_is_known_of_the_others():
    known = {"extend_outcome_0": "cancelled", "extend_outcome_2": "finished_first", "extend_resubmission_2": "given_up"}
    assert without_places(metadata_of(RUNS[:3]) | known, {1}) == {
        "extend_note": "mine",
        "extend_run_0": "clr_0",
        "extend_outcome_0": "cancelled",
        "extend_run_1": "clr_2",
        "extend_outcome_1": "finished_first",
        "extend_resubmission_1": "given_up",
    }
