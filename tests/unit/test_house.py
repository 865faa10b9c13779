"""Habits of the tests that a reader may rely on."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
LONGEST_NAME = 60
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
FILES = sorted(TESTS.rglob("test_*.py"))
PAGES = [ROOT / "README.md", TESTS / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


LONGEST_SLEEP = 0.05
"""Seconds of real time; in virtual time any sleep is free."""


@pytest.fixture(scope="module")
def trees():
    return {path.relative_to(TESTS): ast.parse(path.read_text()) for path in FILES}


@pytest.fixture(scope="module")
def names(trees):
    """The names of all tests."""
    functions = (each for tree in trees.values() for each in ast.walk(tree) if isinstance(each, FUNCTION))
    return {each.name for each in functions if each.name.startswith("test_")}


def marks(nodes):
    """The pytest marks that some expressions name."""
    found = (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Attribute))
    return {each.attr for each in found if ast.unparse(each.value) == "pytest.mark"}


def is_long(seconds):
    return isinstance(seconds, ast.Constant) and seconds.value > LONGEST_SLEEP


def real_sleeps(tree):
    """The tests of a module that sleep in real time for longer than a moment, and have no `slow` mark."""
    module = marks(each for each in tree.body if isinstance(each, ast.Assign))
    for function in (each for each in tree.body if isinstance(each, FUNCTION)):
        own = marks(function.decorator_list)
        is_virtual = "virtual_time" in own | module and "real_time" not in own
        if "slow" in own | module:
            continue
        for call in (each for each in ast.walk(function) if isinstance(each, ast.Call)):
            what = ast.unparse(call.func)
            # What is not asynchronous runs coroutines on the loop of virtual time.
            is_real = isinstance(function, ast.AsyncFunctionDef) and not is_virtual
            if what == "time.sleep" or (what == "asyncio.sleep" and is_real and is_long(call.args[0])):
                yield function.name


def test_only_slow_tests_sleep_in_real_time(trees):
    fast = {path: tree for path, tree in trees.items() if path.parts[0] in ("unit", "contract")}
    assert {str(path): found for path, tree in fast.items() if (found := [*real_sleeps(tree)])} == {}


def test_a_real_sleep_is_found():
    tree = ast.parse("async def test_a(): await asyncio.sleep(0.1)\ndef test_b(): time.sleep(0)")
    assert [*real_sleeps(tree)] == ["test_a", "test_b"]
    marked = "@pytest.mark.slow\nasync def test_a(): await asyncio.sleep(1)"
    assert [*real_sleeps(ast.parse(marked))] == []


def test_each_helper_is_in_the_table_of_helpers():
    helpers = {path.name for path in (TESTS / "support").glob("*.py")} - {"__init__.py", "sweep_process.py"}
    assert helpers == set(re.findall(r"`support/(\w+\.py)`", (TESTS / "README.md").read_text()))


def test_no_test_has_a_longer_name_than_sixty_characters(names):
    assert {name for name in names if len(name) > LONGEST_NAME} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_tests_that_exist(page, names):
    named = set(re.findall(r"[`:/](test_\w+)\b(?!\.py)", page.read_text()))
    assert named - names == set()
