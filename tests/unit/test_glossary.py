"""The glossary gives each term one meaning, in two sentences at most."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from prefect_extend_ai import Outcome

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (Path(__file__).parents[2] / "docs" / "glossary.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| Term", "| Outcome"))
]


def test_a_term_stands_there_once():
    terms = Counter(term.strip("`| ") for row in ROWS for term in row[0].split(", "))
    assert [term for term, count in terms.items() if count > 1] == []


def test_each_outcome_has_its_meaning():
    assert {f"`{outcome}`" for outcome in Outcome} == {row[0] for row in ROWS if row[0].startswith("`")}


def test_a_meaning_is_two_sentences_at_most():
    sentences = {term: len(re.findall(r"[.?!]\)?(?= |$)", meaning)) for term, meaning in ROWS}
    assert {term: count for term, count in sentences.items() if count not in (1, 2)} == {}
