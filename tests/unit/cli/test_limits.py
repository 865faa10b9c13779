"""What check and setup say of the limits that sweeps run with."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from prefect_extend_ai import ExtendCredentials, RunKind, StalePolicy
from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.cli.limits import InForce, check_limits, in_force, judge_limit, limit_words
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sandbox import World, serve
from prefect_extend_ai.sweep.rules.advice import advice_from
from prefect_extend_ai.sweep.rules.past import PastRuns

SEE = "see prefect-extend-ai advise --kind extract"
MANY = "your limit of 60 would have cancelled 112 of the last 5,000 healthy extract runs"
NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)


def advice(minutes, *, cancelled=0, limit=60, **policy):
    past = PastRuns(RunKind.EXTRACT, read_at=NOW)
    for number, took in enumerate([*minutes, *[70] * cancelled]):
        facts = {
            "id": f"exr_{number}",
            "status": "PROCESSED" if number < len(minutes) else "CANCELLED",
            "extractor": {"id": f"ex_{number % 2}"},
            "createdAt": (NOW - timedelta(minutes=took)).isoformat(),
            "updatedAt": NOW.isoformat(),
        }
        past.see(Run.from_text("extract", json.dumps(facts), NOW), NOW)
    return advice_from(past, limit, StalePolicy(**policy))


@pytest.mark.parametrize(
    ("found", "verdict", "text"),
    [
        (
            advice([10] * 4988 + [100] * 12),
            Verdict.WARN,
            f"your limit of 60 would have cancelled 12 of the last 5,000 healthy extract runs: {SEE}",
        ),
        (
            # Each processor's p99 is 100 minutes: a sweep learns a limit of 150 for it.
            advice([10] * 4888 + [100] * 112),
            Verdict.WARN,
            f"{MANY}, but sweeps learn longer limits for their processors: {SEE}",
        ),
        (
            advice([10] * 30, limit=15),
            Verdict.OK,
            "your limit of 15 would have cancelled none of the last 30 healthy extract runs",
        ),
        (advice([10] * 19), Verdict.OK, "too few extract runs have finished to judge your limit of 60"),
        (
            advice([10] * 40 + [70], minutes_by_processor={"ex_0": 90}),
            Verdict.OK,
            "your limits would have cancelled none of the last 41 healthy extract runs",
        ),
        (
            advice([10] * 30, cancelled=1),
            Verdict.OK,
            f"how many healthy extract runs your limit of 60 cancels is unknown: more than 1 % were cancelled; {SEE}",
        ),
    ],
)
def test_a_limit_is_judged_by_what_it_would_have_cancelled(found, verdict, text):
    finding = judge_limit(found)
    assert (finding.subject, finding.verdict, finding.text) == ("Limit", verdict, text)
    assert judge_limit(found, block="acme").text == f"block acme: {text}"
    assert "learn" not in judge_limit(found, StalePolicy(learn_limits=False)).text


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, InForce()),
        ({"max_processing_minutes": 30}, InForce(30)),
        (
            {"max_processing_minutes": 30, "policy": {"minutes_by_processor": {"cl_a": 90}}},
            InForce(30, StalePolicy(minutes_by_processor={"cl_a": 90})),
        ),
        ({"max_processing_minutes": "soon"}, InForce()),
        ({"policy": {"typo": 1}}, InForce()),
        ({"policy": None}, InForce()),
    ],
)
def test_the_limits_in_force_are_those_of_the_parameters(parameters, expected):
    assert in_force(parameters) == expected


@pytest.fixture
def account():
    world = World()
    for number in range(30):
        world.add(status="PROCESSED", updated_minutes=number, created_minutes=number + 90)
    with serve(world) as sandbox:
        yield ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=200), world


async def test_setup_says_what_a_limit_would_have_cancelled(account):
    credentials, _ = account
    words = await limit_words(credentials, {"max_processing_minutes": 60})
    assert words.startswith("your limit of 60 would have cancelled 30 of the last 30 healthy classify runs")
    assert "none" in await limit_words(credentials, {"max_processing_minutes": 120})
    unknown = await limit_words(ExtendCredentials(api_key="sk_wrong", base_url=credentials.base_url), {"kind": "split"})
    assert unknown.startswith("split runs: not known, ")


async def test_check_reads_each_kind_and_limit_once(account):
    credentials, world = account
    sweep = {"max_processing_minutes": 60}
    fleet = [
        SimpleNamespace(block="extend", sweeps=[sweep, sweep]),
        SimpleNamespace(block="extend", sweeps=[sweep | {"kind": "extract"}, {"kind": "of tomorrow"}]),
        SimpleNamespace(block="gone", sweeps=[sweep]),
        SimpleNamespace(block="other", sweeps=[sweep]),
    ]
    other = ExtendCredentials(api_key="sk_wrong", base_url=credentials.base_url)
    found = await check_limits(fleet, {"extend": credentials, "gone": None, "other": other})
    assert [finding.text.partition(" would")[0] for finding in found] == [
        "block extend: your limit of 60",
        "block extend: too few extract runs have finished to judge your limit of 60",
    ]
    assert len([entry for entry in world.journal if entry.path == "/classify_runs" and entry.status == 200]) == 4
