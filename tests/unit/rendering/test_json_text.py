"""JSON is laid out for reading and stays the same JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.rendering import pretty_json
from prefect_extend_ai.rendering.inert import HIDDEN
from prefect_extend_ai.rendering.json_text import INDENTED_LIMIT

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def to_the_letter(text):
    """The JSON with every number as text and every key in order, repeated ones too."""
    return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=lambda pairs: ("object", pairs))


@given(values, st.sampled_from([None, 0, 3]), st.booleans())
def test_it_parses_to_the_same_object_whatever_its_layout_was(value, indent, ascii_only):
    sent = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert to_the_letter(pretty_json(sent)) == to_the_letter(sent)


@given(values)
def test_the_layout_does_not_depend_on_the_one_it_came_with(value):
    assert pretty_json(json.dumps(value, indent=7)) == pretty_json(json.dumps(value, separators=(",", ":")))


@given(values)
def test_no_hidden_character_is_left_in_it(value):
    assert not HIDDEN.search(pretty_json(json.dumps(value, ensure_ascii=False)))


def test_literals_order_and_repeated_keys_stay():
    sent = '{"b":1.50,"a":null,"b":-0.0,"c":[],"d":{},"e":[1E400,true,"x: {\\"y\\"}"]}'
    assert pretty_json(sent) == (
        '{\n  "b": 1.50,\n  "a": null,\n  "b": -0.0,\n  "c": [],\n  "d": {},\n'
        '  "e": [\n    1E400,\n    true,\n    "x: {\\"y\\"}"\n  ]\n}'
    )


def test_hidden_characters_become_escapes_of_the_same_characters():
    sent = '{"name":"\u202egpj\u2028\u200b\U000e0041"}'
    assert pretty_json(sent) == '{\n  "name": "\\u202egpj\\u2028\\u200b\\udb40\\udc41"\n}'
    assert json.loads(pretty_json(sent)) == json.loads(sent)


def test_an_object_of_two_megabytes_does_not_grow():
    value = {
        "output": [
            {"page": page, "text": "words | ```json {} " * 20 + "\u202e", "box": [1.5, 2, 3]} for page in range(6500)
        ]
    }
    sent = json.dumps(value, ensure_ascii=False)
    assert len(sent) > 2_000_000
    assert json.loads(pretty_json(sent)) == value
    assert len(pretty_json(sent)) < 1.1 * len(sent)


def test_deep_nesting_neither_recurses_nor_multiplies_the_size():
    deep = "[" * 100_000 + "]" * 100_000
    assert "".join(pretty_json(deep).split()) == deep
    wide = "[" * 900 + ",".join("1" * 40_000) + "]" * 900
    assert json.loads(pretty_json(wide)) == json.loads(wide)
    assert len(pretty_json(deep)) <= INDENTED_LIMIT
    assert len(pretty_json(wide)) <= INDENTED_LIMIT


@given(st.text())
def test_text_that_is_not_json_loses_only_white_space(text):
    kept = "".join(HIDDEN.sub("", text).split())
    assert sum(map(len, pretty_json(HIDDEN.sub("", text)).split())) == len(kept)
