"""Habits of the tests that a reader may rely on."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
LONGEST_NAME = 60
FILES = sorted(TESTS.rglob("test_*.py"))
PAGES = [ROOT / "README.md", TESTS / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def names_in(path):
    """The names of a file's tests."""
    tree = ast.parse(path.read_text())
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return [each.name for each in functions if each.name.startswith("test_")]


def test_no_test_has_a_longer_name_than_sixty_characters():
    long = [name for path in FILES for name in names_in(path) if len(name) > LONGEST_NAME]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_tests_that_exist(page):
    exist = {name for path in FILES for name in names_in(path)} | {path.stem for path in FILES}
    named = set(re.findall(r"[`:/](test_\w+)\b(?!\.py)", page.read_text()))
    assert named - exist == set()
