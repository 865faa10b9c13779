"""The form in which a person starts a sweep explains itself, and refuses what cannot be meant."""

from __future__ import annotations

import contextlib
import inspect

import pytest
from playwright.sync_api import expect

PARAMETERS = ("credentials", "max_processing_minutes", "dry_run", "kind", "policy")


def labelled(name: str) -> str:
    return name if name == "credentials" else f"{name} (Optional)"


def test_every_parameter_says_what_it_means(ui):
    from prefect_extend_ai.flows import cancel_stale_runs

    assert tuple(inspect.signature(cancel_stale_runs.fn).parameters) == PARAMETERS
    ui.open_form()
    for name in PARAMETERS:
        description = ui.field(labelled(name)).locator("label + p").first
        expect(description).to_be_visible()
        assert description.inner_text().endswith("."), name


def test_each_rule_of_the_policy_card_has_title_and_description(ui):
    from prefect_extend_ai import StalePolicy

    ui.open_form()
    card = ui.field("policy (Optional)").locator("> fieldset > [data-slot=card]")
    shown = dict(zip(card.locator("label").all_inner_texts(), card.locator("label + p").all_inner_texts(), strict=True))
    fields = StalePolicy.model_fields.values()
    assert shown == {f"{field.title} (Optional)": field.description for field in fields}


def test_the_saved_block_and_the_kind_are_picked_from_lists(ui):
    from prefect_extend_ai import RunKind

    page = ui.open_form()
    ui.open_list("credentials")
    expect(page.get_by_role("option", name="extend", exact=True)).to_be_visible()
    page.keyboard.press("Escape")

    picked = ui.open_list("kind (Optional)")
    expect(page.get_by_role("option")).to_have_text(list(RunKind))
    page.get_by_role("option", name="extract").click()
    expect(picked).to_have_text("extract")


def test_ids_are_a_list_and_the_kind_may_be_left_open(ui, stage):
    from prefect_extend_ai import RunKind

    deployment = stage.read("/deployments/name/cancel-runs/extend")["id"]
    page = ui.open(f"/deployments/deployment/{deployment}/run")
    ui.open_list("kind (Optional)")
    expect(page.get_by_role("option")).to_have_text(["", *RunKind])
    page.keyboard.press("Escape")
    ui.choose("credentials", "extend")
    page.get_by_role("button", name="Add item").first.click()
    ui.field("run_ids").get_by_role("textbox").fill("clr_1, clr_2")
    with page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as answered:
        page.get_by_role("button", name="Submit").click()
    assert answered.value.status == 201
    sent = answered.value.request.post_data_json["parameters"]
    assert (sent["run_ids"], sent["kind"]) == (["clr_1, clr_2"], "")


def test_zero_minutes_is_refused_in_the_form(ui, stage):
    page = ui.open_form()
    before = stage.flow_runs()
    minutes = page.get_by_label("max_processing_minutes")
    minutes.fill("0")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("input:invalid")).to_have_count(1)
    assert minutes.evaluate("input => input.validationMessage") == "Value must be greater than or equal to 1."
    page.wait_for_timeout(500)
    assert stage.flow_runs() == before


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ('{"max_minutes": 3}', "Additional properties are not allowed ('max_minutes' was unexpected)"),
        ('{"max_cancellations": 0}', "0 is less than the minimum of 1"),
    ],
    ids=["unknown", "out of bounds"],
)
def test_a_rule_that_cannot_be_is_refused_by_name(ui, stage, rules: str, words: str):
    page = ui.open_form()
    before = stage.flow_runs()
    policy = ui.field("policy (Optional)")
    policy.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Use JSON Input").click()
    editor = policy.get_by_role("textbox")
    expect(editor).to_contain_text('"hold_key"')
    refusal = page.get_by_text(words).first
    for _ in range(5):
        # Prefect's form now and then takes no keystroke, or does nothing at the first click.
        with contextlib.suppress(AssertionError):
            editor.fill(rules)
            expect(editor).to_have_text(rules, timeout=5_000)
            page.get_by_role("button", name="Submit").click()
            expect(refusal).to_be_visible(timeout=8_000)
            break
    expect(refusal).to_be_visible()
    assert stage.flow_runs() == before
