"""A policy given by hand replaces the deployment's: what it then lacks is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai import StalePolicy
from prefect_extend_ai.sweep.rules.protections import missing_protections

DEPLOYED = StalePolicy(
    except_processors=["cl_vip", "cl_law"],
    except_runs=["clr_1"],
    only_processors=["cl_vip", "cl_law", "cl_mail"],
    source="API",
    hold_key="keep",
    minutes_by_processor={"cl_mail": 240},
    max_cancellations=100,
    refuse_above=200,
)


def test_a_default_policy_lacks_all_that_the_deployment_protects():
    assert missing_protections(StalePolicy(outage_guard=False), DEPLOYED, 60) == {
        "except_processors": "cl_vip, cl_law",
        "except_runs": "clr_1",
        "only_processors": "cl_vip, cl_law, cl_mail",
        "source": "API",
        "hold_key": "keep",
        "minutes_by_processor": "cl_mail: 240",
        "max_cancellations": "100, here 500",
        "refuse_above": "200, here 5,000",
        "outage_guard": "on",
    }


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"except_processors": ["cl_vip"]}, {"except_processors": "cl_law"}),
        ({"except_processors": ["cl_law", "cl_vip", "cl_new"]}, {}),
        ({"only_processors": ["cl_mail"]}, {}),
        ({"only_processors": ["cl_mail", "cl_new"]}, {"only_processors": "cl_vip, cl_law, cl_mail"}),
        ({"max_cancellations": 1, "refuse_above": 0}, {}),
        ({"minutes_by_processor": {"cl_mail": 500}}, {}),
        ({"minutes_by_processor": {}}, {"minutes_by_processor": "cl_mail: 240"}),
        ({"source": "STUDIO"}, {"source": "API"}),
        ({"batch_id": "bpr_1"}, {}),
        ({"confirm_seconds": 5, "max_total_minutes": 90}, {}),
    ],
)
def test_only_what_protects_less_is_missing(changed, missing):
    assert missing_protections(DEPLOYED.model_copy(update=changed), DEPLOYED, 60) == missing


def test_a_long_limit_of_the_run_needs_none_by_processor():
    assert missing_protections(DEPLOYED.model_copy(update={"minutes_by_processor": {}}), DEPLOYED, 300) == {}


@given(st.integers(1, 10_000))
def test_a_policy_lacks_nothing_of_itself_nor_of_the_default(minutes):
    assert missing_protections(DEPLOYED, DEPLOYED, minutes) == {}
    assert missing_protections(DEPLOYED, StalePolicy(hold_key="keep"), minutes) == {}
