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


@pytest.fixture(scope="module")
def names():
    """The names of all tests."""
    trees = (ast.parse(path.read_text()) for path in FILES)
    functions = (each for tree in trees for each in ast.walk(tree) if isinstance(each, FUNCTION))
    return {each.name for each in functions if each.name.startswith("test_")}


def test_no_test_has_a_longer_name_than_sixty_characters(names):
    assert {name for name in names if len(name) > LONGEST_NAME} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_tests_that_exist(page, names):
    named = set(re.findall(r"[`:/](test_\w+)\b(?!\.py)", page.read_text()))
    assert named - names == set()
