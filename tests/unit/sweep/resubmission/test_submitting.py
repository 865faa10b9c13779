"""Sweeps that submit documents again, as their reports tell it."""

from __future__ import annotations

import asyncio
import random

import pytest

from prefect_extend_ai.errors import ExtendError, ExtendTransportError
from prefect_extend_ai.rendering import record_page, report_page, report_table
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep import NamedRuns, StaleRuns, Sweep
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.resubmission import successors
from prefect_extend_ai.sweep.resubmission.by_hand import resubmit_one
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.targets import Target
from support.extend import Client, Extend
from support.journals import MemoryJournal, Prefect
from support.processes import Process
from support.virtual_time import VirtualLoop

SECOND = {"prefect_extend_resubmit_of": "clr_a", "prefect_extend_first_run": "clr_a", "prefect_extend_attempt": 1}


class Story:
    """Sweeps one after the other over the same Extend and the same Prefect."""

    def __init__(self, runner, runs, **behaviour):
        self.runner, self.loop = runner, runner.get_loop()
        self.extend = Extend(self.loop, runs, created_run_seconds=None, **behaviour)
        self.prefect = self.extend.prefect = Prefect()
        self.sweeps = 0
        self.listings = []

    def client(self):
        self.sweeps += 1
        process = Process(f"sweep-{self.sweeps}", latencies=random.Random(0))
        self.journal = MemoryJournal(self.prefect, process, now=self.extend.now)
        client = Client(self.extend, process)
        listing = client.iter_pages

        def iter_pages(kind, **filters):
            self.listings.append(filters)
            return listing(kind, **filters)

        client.iter_pages = iter_pages
        return client

    def sweep(
        self, *named, minutes=0, resubmit=2, submits=True, scope=None, dry_run=False, again=True, second_attempt_of=None
    ):
        """Let time pass, then sweep as the flow does; its report."""
        self.runner.run(asyncio.sleep(minutes * 60))
        client = self.client()
        self.journal.second_attempt_of = second_attempt_of
        if scope:
            self.journal.scope = self.journal.scope.model_copy(update=scope)
        policy = StalePolicy(resubmit=resubmit, outage_guard=False, learn_limits=False)
        stale = StaleRuns(RunKind.CLASSIFY, 60, policy)
        selector = NamedRuns(RunKind.CLASSIFY, named, resubmit=again) if named else stale
        engine = Sweep(client, self.journal, selector, raises_alarms=not named)

        async def whole():
            recovered = await engine.recover()
            selection = await engine.select()
            targets = engine.divide(selection.targets).to_ask
            done = [each.would_cancel("stale") for each in targets] if dry_run else await engine.cancel_batch(targets)
            if submits and not dry_run:
                await engine.resubmit_earlier()
            await engine.finish()
            facts = {"pending": engine.pending, "resubmissions": engine.resubmissions, "dry_run": dry_run}
            facts["recovered"] = recovered
            report = SweepReport(limit_minutes=None if named else 60, looked_at=self.extend.now(), **facts)
            return report.with_cancellations(done)

        return self.runner.run(whole())

    def cancel_one(self, run_id):
        """Cancel one run as the task `cancel_run` does."""
        engine = Sweep(self.client(), self.journal, NamedRuns(RunKind.CLASSIFY, [run_id]))

        async def whole():
            await engine.recover(own_runs={run_id})
            (cancellation,) = await engine.cancel_batch([Target(run_id)])
            await engine.finish()
            return cancellation

        return self.runner.run(whole())

    def by_hand(self, run_id):
        client = self.client()
        return self.runner.run(resubmit_one(client, self.journal, run_id, RunKind.CLASSIFY))


@pytest.fixture
def story():
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield lambda *runs, **behaviour: Story(runner, runs, **behaviour)


def page(report):
    return report_page(report, record_url=str, flow_run_url=None)


def test_the_headline_counts_what_was_submitted_again(story):
    on = story({}, {}, {}, {"metadata": SECOND | {"prefect_extend_attempt": 2}})
    report = on.sweep()
    assert report.headline == "Cancelled 4 of 4 stale classify runs; 3 submitted again, 1 given up"
    assert not report.needs_attention
    new = on.extend.successors["clr_0"]
    (result,) = [each for each in report.cancellations if each.run_id == "clr_0"]
    assert (result.outcome, result.resubmission, result.resubmitted_as, result.attempt) == (
        "cancelled",
        "submitted",
        *new,
        1,
    )
    assert f"submitted again as {new[0]}" in result.reason
    rows = {row["run"]: row["submitted_again"] for row in report_table(report, str)}
    assert (rows["clr_0"], rows["clr_3"]) == (new[0], "given up")
    assert f"| clr_0 | {new[0]} | number 1 |" in page(report).replace("\\", "")


def test_no_other_listing_is_read_unless_asked(story):
    on = story({})
    report = on.sweep(resubmit=0)
    assert report.cancellations[0].resubmission is None
    assert [each for each in on.listings if each.get("source") or each.get("status", "") is None] == []


def test_a_chain_is_in_record_and_report(story):
    on = story({})
    for minutes in (0, 70, 70):
        report = on.sweep(minutes=minutes)
    second = on.extend.successors["clr_0"][0]
    third = on.extend.successors[second][0]
    (last,) = report.cancellations
    assert (last.run_id, last.resubmission) == (third, "given_up")
    assert [(each.run_id, each.status) for each in last.chain] == [("clr_0", "CANCELLED"), (second, "CANCELLED")]
    assert "given up: it was submitted again 2 times" in last.reason
    text = page(report).replace("\\", "")
    assert f"clr_0 (CANCELLED), {second} (CANCELLED)" in text
    record = record_page(on.extend.client_run(third), last).replace("\\", "")
    assert f"clr_0 (CANCELLED), {second} (CANCELLED)" in record
    assert "| Submitted again before | 2 |" in record


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"source": "WORKFLOW_RUN"}, "not created over the API"),
        ({"source": "BATCH_PROCESSOR_RUN"}, "not created over the API"),
        ({"source": "STUDIO"}, "not created over the API"),
        ({"file_name": None}, "no file"),
        ({"metadata": {"a": "x" * 10_000}}, "10 KB"),
        ({"creates": ["400"]}, "Extend refuses it: HTTP 400"),
        ({"cancels": ["400-after"]}, "Extend did not accept our cancel"),
    ],
)
def test_what_is_not_submitted_again_says_which_and_why(story, facts, why):
    on = story(facts)
    report = on.sweep()
    (result,) = report.cancellations
    assert (result.outcome, result.resubmission) == ("cancelled", "ineligible")
    assert why in result.reason
    assert report.headline.endswith("; 1 not submitted again")
    assert not report.needs_attention
    assert not on.extend.successors["clr_0"]
    assert on.prefect.intents == {}


def test_an_ignored_source_submits_nobody_elses_documents(story):
    on = story({"source": "WORKFLOW_RUN"}, {}, heeds_filters=False)
    report = on.sweep()
    assert {each.resubmission for each in report.cancellations} == {"ineligible"}
    assert all("ignores source" in each.reason for each in report.cancellations)
    assert not any(on.extend.successors.values())


@pytest.mark.parametrize("word", ["reset", "502", "html", "redirect"])
def test_unknown_is_news_once_and_then_still_pending(story, word):
    on = story({"creates": [word]})
    report = on.sweep()
    assert report.headline.endswith("; 1 may have been submitted again")
    assert report.needs_attention
    assert "Action required:** 1 document may have been submitted again, or not" in page(report)
    assert "no clear response came" in report.cancellations[0].reason
    assert "prefect_extend_resubmit_of clr_0" in report.cancellations[0].reason
    assert "prefect_extend_resubmit_of clr_0; later sweeps look for 24 hours" in page(report).replace("\\", "")
    assert "| clr_0 | **may have been submitted again** | number 1; see what to do next |" in page(report).replace(
        "\\", ""
    )
    assert "…" not in page(report)
    later = on.sweep(minutes=15)
    assert later.headline == "No stale classify runs to cancel; 1 still looked for"
    assert "prefect_extend_resubmit_of clr_0; later sweeps look for 24 hours |" in page(later).replace("\\", "")
    assert (later.needs_attention, later.still_pending) == (False, True)
    last = on.sweep(minutes=24 * 60)
    assert last.headline == "No stale classify runs to cancel; 1 looked for in vain"
    assert "resubmit_run submits it again" in last.resubmissions[0].reason
    assert on.prefect.intents == {}
    assert on.sweep(minutes=15).resubmissions == []


def test_unknown_is_news_again_in_a_retry_of_its_flow_run(story):
    """Prefect shows the state of the last attempt alone."""
    on = story({"creates": ["reset"]})
    assert on.sweep().unknown == ["clr_0"]
    retried = on.sweep(second_attempt_of="sweep-1")
    assert retried.unknown == ["clr_0"]
    assert retried.needs_attention
    assert on.sweep(minutes=10).unknown == []


def test_unknown_names_both_ids_of_a_second_attempt(story):
    on = story({"metadata": SECOND, "creates": ["reset"]})
    report = on.sweep()
    (result,) = report.cancellations
    both = "prefect_extend_resubmit_of clr_0 and prefect_extend_first_run clr_a"
    assert both in result.reason
    # No text is cut off before the second, while it is news and later.
    assert both in page(report).replace("\\", "")
    assert both in page(on.sweep(minutes=15)).replace("\\", "")


@pytest.mark.parametrize("word", ["reset-after", "502-after", "html-after", "409-after"])
def test_a_lost_response_is_found_in_the_listing(story, word):
    on = story({"creates": [word]})
    (result,) = on.sweep().cancellations
    assert (result.resubmission, [result.resubmitted_as]) == ("submitted", on.extend.successors["clr_0"])
    # Some of these had a response.
    assert "lost" not in result.reason


@pytest.mark.parametrize("word", ["unsent", "429"])
def test_what_never_left_is_submitted_by_the_next_sweep(story, word):
    on = story({"creates": [word]})
    report = on.sweep()
    assert report.headline.endswith("; 1 to be submitted again")
    assert report.cancellations[0].resubmission is None
    later = on.sweep(minutes=1)
    assert later.headline == "No stale classify runs to cancel; 1 submitted again"
    assert [later.resubmissions[0].resubmitted_as] == on.extend.successors["clr_0"]
    assert on.prefect.intents == {}


def test_a_refused_sweep_submits_nothing(story):
    on = story({"creates": ["unsent"]})
    on.sweep()
    refused = on.sweep(minutes=1, submits=False)
    assert refused.headline == "No stale classify runs to cancel; 1 to be submitted again"
    assert not on.extend.successors["clr_0"]
    assert on.sweep(minutes=1).resubmissions[0].resubmission == "submitted"


def test_an_entry_of_another_address_is_never_created(story):
    on = story({"creates": ["unsent"]})
    on.sweep()
    later = on.sweep(minutes=1, scope={"api_url": "https://api.us2.extend.app"})
    (result,) = later.resubmissions
    assert result.resubmission == "ineligible"
    assert "another workspace or address" in result.reason
    assert not on.extend.successors["clr_0"]
    assert on.prefect.intents == {}


def test_a_dry_run_says_which_would_be(story):
    on = story({}, {"source": "STUDIO"}, {"metadata": SECOND | {"prefect_extend_attempt": 2}})
    report = on.sweep(dry_run=True)
    assert report.headline == (
        "Would cancel 3 of 3 stale classify runs; "
        "1 would be submitted again, 1 would be given up, 1 not submitted again"
    )
    assert not any(on.extend.successors.values())
    assert "would be submitted again, as number 1" in report.cancellations[0].reason


def test_another_configuration_is_reported_on_the_run(story):
    on = story({})
    on.extend.runs["clr_0"].raw["config"] = {"baseProcessor": "classification_light"}
    (result,) = on.sweep().cancellations
    assert result.resubmission == "submitted"
    assert "its configuration differs from the old run's: an override" in result.reason


def test_too_long_a_listing_is_not_guessed_from(story, monkeypatch):
    monkeypatch.setattr(successors, "MOST_ROWS", 3)
    on = story({}, *({"status": "PROCESSED"} for _ in range(12)), sorts=False)
    (result,) = on.sweep().cancellations
    assert (result.resubmission, not on.extend.successors["clr_0"]) == ("ineligible", True)
    assert "could not be looked for among the newest" in result.reason


def test_named_runs_are_submitted_again_whatever_their_attempt(story):
    on = story({"metadata": SECOND | {"prefect_extend_attempt": 7}}, {})
    report = on.sweep("clr_0")
    assert report.headline == "Cancelled 1 of 1 classify run; 1 submitted again"
    assert report.cancellations[0].attempt == 8
    assert not on.extend.successors["clr_1"]


@pytest.fixture
def planned(story):
    """A sweep was to submit this document again, and its cancel has not taken effect."""
    on = story({"cancel_mode": "never"})
    (left,) = on.sweep().cancellations
    assert (left.outcome, left.resubmission) == ("unconfirmed", None)
    on.extend.world.get("clr_0").cancel_mode = None
    return on


WITHOUT = "its cancel by id was asked for without that"


def test_a_cancel_by_id_says_what_it_no_longer_plans(planned):
    report = planned.sweep("clr_0", minutes=5, again=False)
    (result,) = report.cancellations
    assert (result.outcome, result.resubmission) == ("cancelled", "ineligible")
    assert WITHOUT in result.reason
    assert report.headline == "Cancelled 1 of 1 classify run; 1 not submitted again"
    assert planned.prefect.decided["clr_0"] == "ineligible"
    assert planned.sweep(minutes=90).resubmissions == []
    assert not planned.extend.successors["clr_0"]


def test_a_cancel_by_id_submits_again_where_it_is_told(planned):
    (result,) = planned.sweep("clr_0", minutes=5).cancellations
    assert [result.resubmitted_as] == planned.extend.successors["clr_0"]
    assert len(planned.extend.successors["clr_0"]) == 1


@pytest.mark.parametrize("minutes", [15, 90])
def test_the_single_task_says_what_it_no_longer_plans(planned, minutes):
    result = planned.cancel_one("clr_0")
    assert (result.outcome, result.resubmission) == ("cancelled", "ineligible")
    assert WITHOUT in result.reason
    later = planned.sweep(minutes=minutes)
    assert (later.recovered, later.resubmissions) == ([], [])
    assert not planned.extend.successors["clr_0"]
    assert planned.prefect.intents == {}
    assert len(planned.prefect.texts("clr_0")) == 1


def test_what_the_single_task_leaves_open_keeps_its_word(planned):
    planned.extend.world.get("clr_0").cancel_mode = "never"
    assert planned.cancel_one("clr_0").outcome == "unconfirmed"
    planned.extend.world.get("clr_0").cancel_mode = None
    (result,) = planned.sweep(minutes=120).cancellations
    assert (result.outcome, result.resubmission) == ("cancelled", "ineligible")
    assert WITHOUT in result.reason


@pytest.mark.parametrize("status", ["CANCELLED", "FAILED"])
def test_by_hand_one_run_is_submitted_again_once(story, status):
    on = story({"status": status})
    new = on.by_hand("clr_0")
    assert new.metadata == {
        "prefect_extend_resubmit_of": "clr_0",
        "prefect_extend_first_run": "clr_0",
        "prefect_extend_attempt": 1,
    }
    assert on.by_hand("clr_0").id == new.id
    assert on.extend.successors["clr_0"] == [new.id]
    assert on.prefect.intents == {}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"status": "PROCESSED"}, "only a cancelled or a failed run"),
        ({"status": "PROCESSING"}, "only a cancelled or a failed run"),
        ({"status": "CANCELLED", "source": "WORKFLOW_RUN"}, "not created over the API"),
        ({"status": "CANCELLED", "creates": ["400"]}, "Extend refuses it"),
        ({"status": "CANCELLED", "creates": ["unsent"]}, "could not connect"),
    ],
)
def test_by_hand_the_error_says_why_not(story, facts, why):
    on = story(facts)
    with pytest.raises(ExtendError, match=why):
        on.by_hand("clr_0")
    # Nothing is left for a sweep to do behind anybody's back.
    assert on.prefect.intents == {}


def test_by_hand_a_lost_create_is_looked_for_and_not_sent_again(story):
    on = story({"status": "CANCELLED", "creates": ["reset"]})
    with pytest.raises(ExtendTransportError, match="may have been submitted again"):
        on.by_hand("clr_0")
    with pytest.raises(ExtendError, match="another sweep submits it again, or has"):
        on.by_hand("clr_0")
    assert on.sweep(minutes=10).headline.endswith("; 1 still looked for")
    assert not on.extend.successors["clr_0"]
