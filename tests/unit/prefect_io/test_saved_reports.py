"""The report in an artifact's metadata is the report."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai import Cancellation, Outcome, PendingCancel, RunKind, SweepReport, sweep_report
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.prefect_io.saved_reports import read_report, report_metadata

CANCELLATIONS = st.builds(
    Cancellation,
    run_id=st.text(min_size=1),
    outcome=st.sampled_from(Outcome),
    reason=st.text(),
    age_minutes=st.none() | st.floats(0, 1e6),
    request_ids=st.lists(st.text(), max_size=2),
    record=st.none() | st.uuids(),
)
PENDING = st.builds(
    PendingCancel,
    run_id=st.text(min_size=1),
    since=st.datetimes(timezones=st.just(UTC)),
    outcome=st.none() | st.sampled_from(Outcome),
)
REPORTS = st.builds(
    SweepReport,
    kind=st.sampled_from(RunKind),
    dry_run=st.booleans(),
    limit_minutes=st.none() | st.integers(1, 600),
    exempt=st.dictionaries(st.sampled_from(["held", "too_young"]), st.integers(1, 9)),
    pending=st.lists(PENDING, max_size=3),
    trouble=st.none() | st.text(),
)


@given(REPORTS, st.lists(CANCELLATIONS, max_size=20))
def test_what_is_read_is_what_was_written(report, cancellations):
    whole = report.with_cancellations(cancellations)
    metadata = report_metadata(whole)
    # Prefect cuts off longer values, and puts three dots in their place.
    assert all(len(value) <= 500 for value in metadata.values())
    found = read_report(metadata)
    assert found == whole
    assert found is not None
    assert found.counts[Outcome.ERROR] == whole.counts[Outcome.ERROR]
    assert found.headline == whole.headline


def test_five_thousand_runs_fit():
    ran = [
        Cancellation(
            run_id=f"clr_{uuid4().hex[:20]}",
            outcome=Outcome.CANCELLED,
            reason="1 cancel sent (accepted), status is CANCELLED",
            status="CANCELLED",
            age_minutes=61.25 + place,
            dashboard_url=f"https://dashboard.extend.ai/runs/{uuid4().hex[:20]}",
            request_ids=[f"req_{uuid4().hex[:20]}"],
            record=uuid4(),
        )
        for place in range(5000)
    ]
    metadata = report_metadata(SweepReport(looked_at=datetime.now(UTC)).with_cancellations(ran))
    # Prefect Cloud takes requests of up to 5 MiB, page and all.
    assert sum(map(len, metadata.values())) < 1_000_000
    found = read_report(metadata)
    assert found is not None
    assert found.cancellations == ran


def test_what_is_no_whole_report_is_none():
    metadata = report_metadata(SweepReport(trouble="é" * 3000).with_cancellations([]))
    assert read_report(None) is None
    assert read_report({"extend_report": "x"}) is None
    assert read_report({"extend_report": "0"}) is None
    assert read_report({**metadata, "extend_report_0": "!" * 500}) is None
    metadata.pop("extend_report_0")
    assert read_report(metadata) is None


async def test_an_id_that_cannot_be_a_flow_runs_is_refused_at_once():
    with pytest.raises(ExtendInputError, match="'clr_1' is not the id of a flow run"):
        await sweep_report("clr_1")
