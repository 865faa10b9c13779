"""The pictures of the documentation. `make screenshots` takes them with this, and copies them to docs/.

The titles on a picture are kept beside it: where the page has others by now, the picture is old, and its test fails.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("worker")
OUTPUT = Path(__file__).parents[1] / "output" / "docs"
DOCS = Path(__file__).parents[2] / "docs"
TITLES = "h1, h2, h3, h4, th, label"
LARGEST_BYTES = 200_000
BESIDE_THE_MENU = 256
"""Where the page itself begins, to the right of Prefect's own menu."""


def take(page, name: str, height: int) -> None:
    page.set_viewport_size({"width": 1280, "height": height})
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / f"{name}.png"
    page.screenshot(path=file, clip={"x": BESIDE_THE_MENU, "y": 0, "width": 1280 - BESIDE_THE_MENU, "height": height})
    assert 20_000 < file.stat().st_size < LARGEST_BYTES
    # Ids and numbers differ from one stage to the next.
    titles = [re.sub(r"\w+_\S+|\d+", "#", title) for title in page.locator(TITLES).all_inner_texts()]
    titles = sorted({title.strip() for title in titles} - {""})
    file.with_suffix(".json").write_text(json.dumps(titles, indent=1, ensure_ascii=False) + "\n")
    if "RENEW_PICTURES" not in os.environ:
        assert titles == json.loads((DOCS / f"{name}.json").read_text()), "the picture is old: run make screenshots"


def test_the_run_form(ui, stage):
    ui.wait_for("worker", lambda: stage.read("/work_pools/extend")["status"] == "READY")
    page = ui.open_form()
    ui.choose("credentials", "extend")
    page.mouse.click(0, 0)
    take(page, "run-form", 1000)


def test_the_report(ui, stage):
    page = ui.open_artifact(stage.latest("extend-sweep-classify"))
    page.locator("img[src^='data:image/svg+xml']").wait_for()
    take(page, "report", 1375)


def test_a_record(ui, stage):
    world = stage.sandbox.world
    cancelled = next(run_id for run_id, run in world.runs.items() if run.cancels and run_id != stage.hostile)
    page = ui.open_artifact(stage.record(cancelled))
    page.locator("pre code").first.wait_for()
    take(page, "record", 1000)
