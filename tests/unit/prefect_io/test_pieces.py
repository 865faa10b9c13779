"""Long texts survive Prefect's own limit on metadata."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import Artifact

from prefect_extend_ai.prefect_io.pieces import in_pieces, joined
from prefect_extend_ai.prefect_io.reports import _history, _history_metadata
from prefect_extend_ai.sweep.history import HOLDS, SWEEPS, History, Hold, PastSweep


@given(st.text(max_size=2000))
def test_a_text_is_whole_after_prefect_has_kept_it(text):
    kept = Artifact(metadata_=in_pieces("name", text)).metadata_
    assert joined("name", kept) == text


def test_what_is_missing_or_cut_off_is_no_text():
    whole = in_pieces("name", "x" * 1200)
    assert joined("name", None) is None
    for lost in whole:
        assert joined("name", {key: value for key, value in whole.items() if key != lost}) is None


def test_a_full_history_survives_the_report():
    began = datetime(2026, 3, 1, tzinfo=UTC)
    history = History(
        [PastSweep(began + timedelta(minutes=15 * each), 40, 38, 2, alarm=True) for each in range(SWEEPS)],
        {f"workflow_run_{each:021}": Hold(1_772_323_200 + each, 1_772_326_800 + each) for each in range(HOLDS)},
    )
    assert _history(Artifact(metadata_=_history_metadata(history)).metadata_) == history
