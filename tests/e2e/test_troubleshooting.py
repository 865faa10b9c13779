"""What the troubleshooting page says that people see is what they see: each state is provoked, and held to its row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefect_extend_ai import ExtendCredentials, Outcome, StalePolicy, SweepFailed, SweepRefused
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sandbox import API_KEY, Behaviour, World, serve

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()


def row(heading, start):
    """What a row of the table below a heading names as code, and what it quotes, by how its first cell begins."""
    lines = PAGE.partition(f"# {heading}\n")[2].partition("\n## ")[0].splitlines()
    [line] = [line for line in lines if line.startswith(f"| {start}")]
    first = line.split(" | ")[0]
    quoted = [part.strip() for each in re.findall(r'"([^"]+)"', first) for part in re.split(r"\bN\b|\.\.\.", each)]
    return re.findall(r"`(\w+)`", first), [part for part in quoted if part]


async def sweep(world, policy=None, **account):
    """What a sweep of this world returns, or the exception that it raises."""
    with serve(world) as sandbox:
        credentials = ExtendCredentials(
            **{"api_key": API_KEY, "base_url": sandbox.url, "requests_per_second": 100} | account
        )
        try:
            return await cancel_stale_runs(credentials, policy=policy or StalePolicy(confirm_seconds=1))
        except SweepFailed as failed:
            return failed


@pytest.mark.parametrize(
    ("start", "world", "account"),
    [
        ("401", {"keys": {"sk_another": None}}, {}),
        ("402", {"troubles": ["any:*:402@1-"]}, {}),
        ("403", {"troubles": ["any:*:403@1-"]}, {}),
        ('"workspace" in', {"keys": {API_KEY: None}}, {}),
        ('"which was not followed', {"troubles": ["any:*:redirect@1-"]}, {}),
        ("`SharedLimitError`", {}, {"rate_limit": "not-there"}),
    ],
)
async def test_an_error_is_the_one_that_the_page_names(prefect_server, stuck, start, world, account):
    names, quoted = row("Errors", start)
    failed = await sweep(stuck(2, **world), **account)
    assert type(failed) is SweepFailed
    assert [type(failed.__cause__).__name__ for _ in names] == names
    assert all(part in str(failed) for part in quoted), failed


@pytest.mark.parametrize(
    ("start", "world", "policy"),
    [
        ('"N stale runs are more', {}, {"refuse_above": 2, "max_cancellations": 2}),
        ('"none has finished within', {}, {}),
        ("\"Extend's listing ignores", {"behaviour": Behaviour(heeds_filters=False)}, {"source": "API"}),
    ],
)
async def test_a_refusal_is_the_one_that_the_page_quotes(prefect_server, start, world, policy):
    _, quoted = row("Refused", start)
    stale = World(seed=71_000, **world)
    for _ in range(25):
        stale.add(age_minutes=120)
    refused = await sweep(stale, StalePolicy(**policy))
    assert type(refused) is SweepRefused
    assert all(part in str(refused) for part in quoted), refused
    assert {run.status for run in stale.runs.values()} == {"PROCESSING"}


async def test_a_run_ends_with_the_words_that_the_page_quotes(prefect_server, stuck):
    world = stuck(0)
    faults = {
        "`cancelled`": "",
        "`already_cancelled`": "get:{}:status=CANCELLED",
        '`spared`, "it changed': "get:{}:touch",
        "`finished_first`": "get:{}:finish",
        "`not_found`": "get:{}:404@1-",
        "`unconfirmed`": "cancel:{}:cancel=never",
        "`refused`": "cancel:{}:400@1-",
        "`error`": "get:{}:500@1-",
        '`deferred`, "over the cap"': "",
    }
    of_run = {}
    for number, (start, fault) in enumerate(faults.items()):
        # The oldest are asked, and what has been stale for the shortest time is over the cap.
        run_id = world.add(age_minutes=200 - number)
        of_run[run_id] = start
        if fault:
            world.troubles.add(fault.format(run_id))
    failed = await sweep(world, StalePolicy(confirm_seconds=1, max_cancellations=8))
    found = {each.run_id: each for each in failed.report.cancellations}
    for run_id, start in of_run.items():
        names, quoted = row("What the report says of a run", start)
        assert [found[run_id].outcome] == [Outcome(name) for name in names[:1]], found[run_id]
        assert all(part in found[run_id].reason for part in quoted), found[run_id]
