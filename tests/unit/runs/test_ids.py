"""Ids as people paste them, and the kind that their prefixes say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.runs.ids import check_kind, guess_kind, kind_of_run, looks_like, split_run_ids
from prefect_extend_ai.sweep import NamedRuns

KINDS = st.sampled_from(list(RunKind))
PLAIN = st.text("abcXYZ019_-", min_size=1, max_size=12)
KNOWN = st.builds(lambda kind, rest: kind.id_prefix + rest, KINDS, PLAIN)
UNKNOWN = PLAIN.filter(lambda text: looks_like(text) is None)
ADDRESS = "https://dashboard.extend.ai/runs/{}"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("clr_1", ["clr_1"]),
        ("clr_1, clr_2,clr_3", ["clr_1", "clr_2", "clr_3"]),
        ("clr_1\nclr_2\r\n\tclr_3 ", ["clr_1", "clr_2", "clr_3"]),
        (" ,\n, ", []),
        ("https://dashboard.extend.ai/runs/clr_1", ["clr_1"]),
        ("https://dashboard.extend.ai/runs/clr_1?tab=output#top", ["clr_1"]),
        ("https://dashboard.extend.ai/workflows/workflow_1/runs/workflow_run_2/", ["workflow_run_2"]),
        ("https://dashboard.extend.ai/runs/clr_1/steps", ["clr_1"]),
        ("https://dashboard.extend.ai/runs/new_1", ["new_1"]),
        ("https://dashboard.extend.ai", ["https://dashboard.extend.ai"]),
        ("http://[clr_1", ["http://[clr_1"]),
    ],
)
def test_what_people_paste_is_understood(text, ids):
    assert split_run_ids([text]) == ids


@given(st.lists(KNOWN | UNKNOWN), st.sampled_from([",", " ", "\n", ", ", "\t"]))
def test_pasted_in_one_or_as_a_list_is_the_same(ids, between):
    assert split_run_ids([between.join(ids)]) == split_run_ids(ids) == ids
    assert split_run_ids([ADDRESS.format(each) for each in ids]) == ids


@given(KINDS, PLAIN)
def test_an_id_looks_like_the_kind_of_its_prefix_alone(kind, rest):
    assert looks_like(kind.id_prefix + rest) is kind
    assert kind_of_run(kind.id_prefix + rest, None) is kind


@given(st.lists(KNOWN | UNKNOWN, min_size=1), st.none() | KINDS)
def test_ids_pass_only_where_none_looks_like_another_kind(ids, named):
    kind = named or guess_kind(ids)
    looks = {looks_like(each) for each in ids}
    # Where nobody named a kind, an id that looks like none is taken for classify.
    allowed = {kind, None} if named else {kind if kind in looks else None}
    if looks <= allowed:
        check_kind(ids, kind, named=named is not None)
    else:
        with pytest.raises(ExtendInputError):
            check_kind(ids, kind, named=named is not None)


@pytest.mark.parametrize(
    ("ids", "named", "said"),
    [
        (["clr_1", "exr_2"], None, "'clr_1' looks like a classify run, 'exr_2' looks like an extract run"),
        (["odd", "exr_2"], None, "'odd' looks like no kind that is known, 'exr_2' looks like an extract run"),
        (["exr_1"], RunKind.CLASSIFY, "the kind is classify, but 'exr_1' looks like an extract run: name extract"),
        (["exr_1", "vr_1", "clr_1"], RunKind.CLASSIFY, "'exr_1' looks like an extract run, 'vr_1' looks like a verify"),
        ([f"exr_{n}" for n in range(9)], RunKind.SPLIT, "'exr_0', 'exr_1', 'exr_2' and 6 more look like extract runs"),
    ],
)
def test_a_refusal_says_which_id_looks_like_what(ids, named, said):
    selector = NamedRuns(named or guess_kind(ids), ids, kind_is_named=named is not None)
    with pytest.raises(ExtendInputError, match=said):
        selector.validate()


def test_an_unknown_prefix_alone_means_classify():
    assert guess_kind(["odd_1", "odd_2"]) is RunKind.CLASSIFY
    NamedRuns(RunKind.CLASSIFY, ["odd_1", "odd_2"], kind_is_named=False).validate()
    assert kind_of_run("odd_1", None) is RunKind.CLASSIFY
    assert kind_of_run("odd_1", "verify") is RunKind.VERIFY


def test_one_bad_id_among_many_names_itself():
    with pytest.raises(ExtendInputError, match=r"'clr_2/x' is not a run id"):
        NamedRuns(RunKind.CLASSIFY, ["clr_1", "clr_2/x", "clr_3"]).validate()
