"""Whether anything ever deletes records."""

from __future__ import annotations

import pytest

from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.cli.retention import judge_retention

DAY = 86_400


@pytest.mark.parametrize(
    ("vacuum", "verdict", "said"),
    [
        ({"enabled": ["events"], "retention_period": 90 * DAY}, Verdict.WARN, "nothing ever deletes records"),
        ({"enabled": None}, Verdict.WARN, "nothing ever deletes records"),
        ({"enabled": False, "retention_period": 90 * DAY}, Verdict.WARN, "nothing ever deletes records"),
        ({"enabled": ["events", "flow_runs"], "retention_period": "P30D"}, Verdict.OK, "after 30 days"),
        ({"enabled": True, "retention_period": 90 * DAY}, Verdict.OK, "after 90 days"),
        ({"enabled": ["flow_runs"], "retention_period": DAY / 2}, Verdict.WARN, "after 0.5 days"),
    ],
)
def test_a_server_without_a_vacuum_of_flow_runs_is_told(vacuum, verdict, said):
    found = judge_retention(vacuum)
    assert found.verdict is verdict
    assert said in found.text
