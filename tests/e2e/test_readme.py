"""The examples of README and documentation, taken from the pages and run as they stand."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prefect import Flow

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.errors import ExtendTimeoutError
from prefect_extend_ai.sandbox import Behaviour, World, serve
from support.pages import python_blocks, run_example

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "own-flows.md"]
BLOCKS = python_blocks(*PAGES)


@pytest.fixture
def example(tmp_path):
    """Runs the block that defines this name, and gives the name."""
    return lambda name: run_example(BLOCKS, name, tmp_path)


@pytest.fixture
def extend(prefect_server, request):
    """An Extend in which a created run takes as long as the test says."""
    behaviour = Behaviour(created_run_seconds=getattr(request, "param", 0.5))
    with serve(World(behaviour=behaviour, seed=2_000_000 + time.time_ns() % 1_000_000)) as running:
        yield running


@pytest.fixture
async def saved(extend):
    """The block that the example loads."""
    await ExtendCredentials(api_key="sk_sandbox", base_url=extend.url).asave("extend", overwrite=True)


def test_there_are_examples_and_each_is_run_by_a_test():
    names = {name for block in BLOCKS for name in re.findall(r"^async def (\w+)\(", block, re.MULTILINE)}
    assert names == {"classify", "sweep", "cancel_oldest"}


async def test_a_document_classified_in_time_is_reported_by_its_type(extend, saved, example):
    classify = example("classify")
    assert isinstance(classify, Flow)
    found = await classify("https://example.com/in/letter.pdf", "cl_letters", give_up_after_seconds=20)
    (run,) = extend.world.runs.values()
    assert found == extend.world.full(run.id)["output"]["type"]
    assert run.processor.id == "cl_letters"
    assert not run.cancels


@pytest.mark.parametrize("extend", [None], indirect=True)
async def test_a_document_that_takes_too_long_is_cancelled(extend, saved, example, artifacts):
    with pytest.raises(ExtendTimeoutError, match=r": cancelled, 1 cancel sent \(accepted\), status is CANCELLED"):
        await example("classify")("https://example.com/in/letter.pdf", "cl_letters", give_up_after_seconds=1)
    (run,) = extend.world.runs.values()
    assert (run.status, run.cancels) == ("CANCELLED", 1)
    assert artifacts.records()[run.id] == [extend.world.full(run.id)]


@pytest.mark.parametrize("extend", [None], indirect=True)
async def test_a_document_that_is_done_at_the_last_moment_is_not_lost(extend, saved, example):
    extend.world.troubles.add("cancel:*:finish")
    found = await example("classify")("https://example.com/in/letter.pdf", "cl_letters", give_up_after_seconds=1)
    (run,) = extend.world.runs.values()
    assert found == extend.world.full(run.id)["output"]["type"]


async def test_the_sweep_of_the_example_says_what_it_did(extend, example, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXTEND_API_KEY", "sk_sandbox")
    monkeypatch.setenv("EXTEND_BASE_URL", extend.url)
    world = extend.world
    stuck = [world.add(age_minutes=50), world.add(age_minutes=90)]
    spared = world.add(age_minutes=90, processor="cl_quarterly_reports")
    sweep = example("sweep")
    await sweep()
    assert [world.get(run_id).status for run_id in [*stuck, spared]] == ["CANCELLED", "CANCELLED", "PROCESSING"]
    said = capsys.readouterr().out
    assert "Cancelled 2 of 2 stale classify runs" in said
    assert "except_processor" in said
    # And where something is wrong, the report comes with the exception.
    refused = world.add(age_minutes=90)
    world.troubles.add(f"cancel:{refused}:400@1-")
    await sweep()
    assert "1 refused by Extend" in capsys.readouterr().out


async def test_the_oldest_stale_run_of_the_example_is_cancelled(extend, saved, example, capsys):
    oldest, younger = extend.world.add(age_minutes=90), extend.world.add(age_minutes=70)
    await example("cancel_oldest")()
    assert [extend.world.get(run_id).status for run_id in (oldest, younger)] == ["CANCELLED", "PROCESSING"]
    assert "True 1 cancel sent (accepted), status is CANCELLED CANCELLED" in capsys.readouterr().out
