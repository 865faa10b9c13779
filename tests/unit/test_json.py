"""One run must never hide the others that are listed with it, however odd its JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai._json import DEEPEST, parse_json

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANYTHING, st.sampled_from([None, 2]))
def test_what_python_reads_is_read_alike(value, indent):
    assert parse_json(json.dumps(value, indent=indent)) == value


@pytest.mark.parametrize("levels", [900, 3000, 5000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"k":', "}"), ('[1,{"a]}":', ',"b":[2]}]')])
def test_metadata_that_nests_too_deep_is_lost_alone(levels, opens, closes):
    deep = opens * levels + "null" + closes * levels
    run = parse_json(f'{{"id":"clr_1","metadata":{{"prefect_hold":{deep}}},"status":"PROCESSING"}}')
    assert (run["id"], run["status"]) == ("clr_1", "PROCESSING")
    assert run["metadata"]["prefect_hold"], "held in doubt"


def test_what_lies_too_deep_becomes_an_ellipsis():
    value, depth = parse_json("[" * 5000 + "]" * 5000), 0
    while isinstance(value, list):
        (value,), depth = value, depth + 1
    assert (value, depth) == ("…", DEEPEST)


@pytest.mark.parametrize("digits", [10, 4000, 4301, 100_000])
def test_a_number_of_any_length_is_a_number(digits):
    found = parse_json(f'{{"n": {"9" * digits}, "id": "clr_1"}}')
    assert found["id"] == "clr_1"
    assert isinstance(found["n"], int if digits <= 4000 else float)


def test_a_byte_order_mark_is_not_part_of_the_text():
    assert parse_json('\ufeff{"id": 1}') == {"id": 1}


@pytest.mark.parametrize("text", ["", "<html>", "[" * 5000, "]" * 5000, "[" * 5000 + '"x' + "]" * 5000, "{", "nul"])
def test_text_that_is_not_json_is_one_kind_of_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
