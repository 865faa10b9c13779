"""Which names of flow runs somebody gave."""

from __future__ import annotations

import pytest
from prefect.utilities.names import generate_slug

from prefect_extend_ai.prefect_io.naming import is_made_up


def test_prefects_own_names_are_made_up():
    assert all(is_made_up(generate_slug(2), "acme extract") for _ in range(500))


@pytest.mark.parametrize("name", ["Incredible-Boggle", "Small-Ox", "Handcrafted-Beagle"])
def test_names_of_the_form_for_a_custom_run_are_made_up(name):
    assert is_made_up(name, "acme extract")


@pytest.mark.parametrize("name", ["acme extract", "acme extract: cancelled 40 of 40"])
def test_ours_of_an_earlier_attempt_is_made_up(name):
    assert is_made_up(name, "acme extract")


@pytest.mark.parametrize(
    "name",
    [
        "nightly-sweep",
        "my run",
        "",
        "acme extract by id",
        "Auspicious-wombat",
        "auspicious-wombat-2",
        "acme",
        "Small-Invoices",
        "Small-fix",
    ],
)
def test_a_name_that_somebody_gave_is_not(name):
    assert not is_made_up(name, "acme extract")
