"""What `prefect-extend-ai check` makes of what it sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from prefect_extend_ai.cli.findings import (
    Verdict,
    judge_clock,
    judge_holds,
    judge_pending,
)
from prefect_extend_ai.client import Page
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.journal import CancelIntent
from prefect_extend_ai.sweep.report import PendingCancel
from prefect_extend_ai.sweep.rules.policy import StalePolicy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_page(extend, ours, *runs):
    return Page([Run.from_item("classify", {"id": "clr_1"} | run) for run in runs], 0, None, extend, ours)


@pytest.mark.parametrize("seconds", [-120, 0, 120])
def test_a_clock_within_two_minutes_agrees(seconds):
    assert judge_clock(a_page(NOW, NOW + timedelta(seconds=seconds))).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("ours", "changed", "said"),
    [
        (5, 0, "5 min behind the local one. The local clock is likely"),
        (-180, 1, "3 h ahead of the local one. The local clock is likely"),
        (-180, 181, "3 h ahead of the local one. Extend's is likely"),
        (-180, 500, "3 h ahead of the local one. The times of the runs do not show"),
    ],
)
def test_a_wrong_clock_is_reported_with_how_far_and_whose(ours, changed, said):
    run = {"updatedAt": (NOW - timedelta(minutes=changed)).isoformat()}
    finding = judge_clock(a_page(NOW, NOW + timedelta(minutes=ours), run))
    assert finding.verdict is Verdict.WARN
    assert finding.text.startswith(f"Extend's clock is {said}")


def test_a_response_without_a_date_stops_every_sweep():
    assert judge_clock(a_page(None, NOW)).verdict is Verdict.FAIL


def test_metadata_that_only_looks_like_a_hold_is_reported():
    runs = [Run.from_item("classify", {"id": f"clr_{n}", "metadata": m}) for n, m in enumerate([{}, {"ops_hold": 1}])]
    finding = judge_holds(runs, StalePolicy())
    assert finding.verdict is Verdict.WARN
    assert "1 run in progress, clr_1 the oldest" in finding.text
    assert "the hold key is prefect_hold" in finding.text
    assert judge_holds(runs, StalePolicy(hold_key="ops.hold")) is not None
    assert judge_holds(runs, StalePolicy(hold_key="ops_hold")) is None


def intent(*run_ids, kind="classify", hours=5, known=None, **scope):
    scope = {"kind": kind, "api_url": "https://api.extend.ai"} | scope
    return CancelIntent(
        id=uuid4(), scope=scope, run_ids=run_ids, opened_at=NOW - timedelta(hours=hours), known=known or {}
    )


def test_what_is_pending_is_reported_by_kind_and_account():
    block = ExtendCredentials(api_key="sk_1")
    aside = PendingCancel(run_id="clr_2", since=NOW - timedelta(days=3), attempts=4, set_aside=True)
    open_ = [
        intent("clr_1"),
        intent("clr_2", known={"clr_2": aside}),
        intent("exr_1", kind="extract", hours=2),
        intent("clr_7", "clr_8", workspace_id="ws_2"),
        intent("clr_9", api_url="https://elsewhere.example.com", hours=50),
        intent("clr_0", hours=0),
    ]
    found = judge_pending(open_, [block], NOW)
    assert [each.text for each in found] == [
        (
            "2 classify runs of earlier sweeps still pending, the oldest for 3 d, 1 of them set aside: "
            "the last report lists them"
        ),
        "1 extract run of earlier sweeps still pending, the oldest for 2 h: the last report lists them",
        (
            "2 cancel intents with 3 runs of another workspace or address pending for 2 d 2 h: "
            "a sweep whose account can read them recovers them"
        ),
    ]
    assert judge_pending([], [block], NOW) == []
