"""A run is taken out of a shared record, and the others stay to the letter."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai import Cancellation, Outcome, Run
from prefect_extend_ai.rendering import shared_record_page
from prefect_extend_ai.rendering.shared_records import without_runs

TRICKY = st.text() | st.sampled_from(
    ["### Classify run clr_0", "```", "```json", "\n### x\n```\n", "````json\n{}\n````"]
)
TEXTS = st.lists(TRICKY, min_size=2, max_size=5)


def pair(place, text):
    raw = {"id": f"clr_{place}", "status": "CANCELLED", "failureReason": text, "metadata": {text: text}}
    reason = text or "why"
    run = Run.from_text("classify", json.dumps(raw))
    return run, Cancellation(run_id=run.id, outcome=Outcome.CANCELLED, reason=reason)


@given(TEXTS, st.data())
def test_what_is_left_is_the_record_of_the_others(texts, data):
    pairs = [pair(place, text) for place, text in enumerate(texts)]
    gone = data.draw(st.sets(st.sampled_from(range(len(pairs))), min_size=1, max_size=len(pairs) - 1))
    left = [each for place, each in enumerate(pairs) if place not in gone]
    assert without_runs(shared_record_page(pairs), gone) == shared_record_page(left)


@pytest.mark.parametrize("page", ["", "## Classify run clr_1\n\ntext", "## 2 runs\n\n1. a\n2. b\n\n### one"])
def test_a_page_of_another_form_is_left_alone(page):
    with pytest.raises(ValueError, match="not a shared record"):
        without_runs(page, {0})


def test_a_place_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no run at that place"):
        without_runs(shared_record_page([pair(0, "x"), pair(1, "y")]), {2})
