"""docs/sandbox.md describes every fault and every switch that exists, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from prefect_extend_ai.sandbox import Behaviour, CancelMode, Trouble
from prefect_extend_ai.sandbox.command import sandbox
from prefect_extend_ai.sandbox.troubles import CHAOS_SHARE, FAULTS, WHERE
from support.pages import python_blocks

PATH = Path(__file__).parents[3] / "docs" / "sandbox.md"
PAGE = PATH.read_text("utf-8")
FORMS = {"slow=2", "outage=30", "status=QUARANTINED", "cancel=never", "redirect=https://example.com/login", "503=2"}
"""What the page writes for the faults that take a value."""


def section(title):
    return re.split(r"^#+ ", PAGE.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(title):
    """What each row of the table in a section is about."""
    rows = re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", section(title), re.MULTILINE)
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def test_every_fault_has_a_row():
    named = [each.partition("=")[0] for each in first_cells("Faults of a response") + first_cells("Changes of the run")]
    assert sorted(set(named) - {"400", "599", "503"}) == sorted(FAULTS)
    assert {"400", "599"} <= set(named)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_fault_that_takes_a_value_is_shown_with_one(form):
    assert f"`{form}`" in PAGE
    assert str(Trouble.parse(f"any:*:{form}")) == f"any:*:{form}"


def test_every_operation_is_named():
    (row,) = re.findall(r"^\| `WHERE` \| (.*) \|$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(WHERE)


def test_every_rule_on_the_page_can_be_read():
    rules = re.findall(r"(?:any|list|get|cancel|create|delete):[^\s`':]+:[^\s`'\",\]]+", PAGE)
    assert len(rules) > 8
    assert [str(Trouble.parse(each)) for each in rules] == rules


def test_the_share_of_random_faults_is_right():
    assert f"{CHAOS_SHARE:.0%} of the requests" in PAGE


def test_every_switch_has_a_row_with_its_default_and_meaning():
    assert first_cells("Assumptions about the API") == list(Behaviour.model_fields)
    for name, field in Behaviour.model_fields.items():
        # By their letters: 0.0 == False.
        default = {"None": "none", "True": "true", "False": "false"}.get(str(field.default), field.default)
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", PAGE, re.MULTILINE)
        values, shown, meaning = row.split(" | ")
        assert (shown, meaning) == (f"`{default}`", field.description)
        literals = get_args(field.annotation)
        if literals and all(isinstance(each, str | int) for each in literals):
            assert re.findall(r"`(\w+)`", values) == [str(each) for each in literals] or name == "cancel"


def test_every_mode_of_a_cancel_has_a_row():
    assert first_cells("What an accepted cancel does") == list(get_args(CancelMode))


def test_every_option_of_the_command_is_named():
    options = {"--" + name.replace("_", "-") for name in sandbox.__annotations__ if name != "return"}
    assert {each for each in options if f"`{each}" not in PAGE} == set()


def test_the_example_for_tests_runs_as_it_stands():
    *_, block = python_blocks(PATH)
    names = {}
    exec(compile(block, "sandbox.md", "exec"), names)
    assert names["credentials"].base_url == names["sandbox"].url
    assert len(names["world"].stale()) == 12
