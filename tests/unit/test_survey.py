"""A survey finds every stale run in a listing of any sort, and asks the guards before anything is cancelled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.client import Page
from prefect_extend_ai.errors import ExtendInputError, ExtendOddAnswerError
from prefect_extend_ai.report import Outcome
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.staleness import OUTAGE_FROM, Exempt, StalePolicy
from prefect_extend_ai.stop import Stop
from prefect_extend_ai.survey import PAGES_UNSORTED, Target, guarded_survey, take_survey

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def item(run_id, minutes, status="PROCESSING", created=None, **fields):
    updated = (NOW - timedelta(minutes=minutes)).isoformat()
    made = (NOW - timedelta(minutes=minutes if created is None else created)).isoformat()
    return {"id": run_id, "status": status, "updatedAt": updated, "createdAt": made} | fields


class Listings:
    """Stands in for ExtendClient: pages cut from a list of items, in the order asked for unless told otherwise."""

    def __init__(self, items, *, size=3, in_order=True, read_at=NOW, unreadable=0):
        self.items = items
        self.size = size
        self.in_order = in_order
        self.read_at = read_at
        self.unreadable = unreadable
        self.asked = []
        self.pages_read = 0

    async def iter_pages(self, kind, *, status="PROCESSING", sort_by="updatedAt", sort_dir="asc", **filters):
        self.asked.append({"status": status, "sort_by": sort_by, "sort_dir": sort_dir} | filters)
        found = [
            each for each in self.items if not isinstance(each, dict) or each["status"] == status or not self.in_order
        ]
        if self.in_order and RunKind(kind).sortable:
            found = sorted(found, key=lambda each: each[sort_by])
            found = found[::-1] if sort_dir == "desc" else found
        for start in range(0, max(len(found), 1), self.size):
            self.pages_read += 1
            runs = [Run.from_item(kind, each, self.read_at) for each in found[start : start + self.size]]
            yield Page(runs, unreadable=self.unreadable, read_at=self.read_at)


async def survey_of(listings, *, kind="classify", limit=60, stop=None, **policy):
    return await guarded_survey(listings, RunKind(kind), limit, StalePolicy(**policy), stop=stop)


def ids(survey):
    return [target.run_id for target in survey.stale]


async def test_the_stale_ones_are_found_oldest_first_and_the_rest_is_counted():
    listings = Listings(
        [
            item("clr_old", 500),
            item("clr_stale", 61),
            item("clr_edge", 60),
            item("clr_held", 300, metadata={"prefect_hold": 1}),
            item("clr_done", 400, status="PROCESSED"),
        ]
    )
    survey = await survey_of(listings)
    assert ids(survey) == ["clr_old", "clr_stale"]
    assert survey.exempt == {Exempt.HELD: 1, Exempt.TOO_YOUNG: 1}
    assert survey.listed == 4
    assert survey.now == NOW
    assert survey.refusal is None
    assert survey.stale[0] == Target("clr_old", NOW - timedelta(minutes=500), NOW - timedelta(minutes=500), 500.0, None)


async def test_a_sorted_listing_is_read_no_further_than_the_first_run_that_is_too_young():
    listings = Listings([item(f"clr_{n}", n) for n in range(1, 1000)], size=10)
    survey = await survey_of(listings, limit=990)
    assert len(survey.stale) == 9
    assert listings.pages_read == 1


async def test_a_sweep_that_is_stopped_reads_no_further_page_and_selects_nothing():
    listings = Listings([item(f"clr_{n}", 100 + n) for n in range(9)], size=1)
    stop = Stop(lambda: listings.pages_read)
    stop.after(4, "the sweep took too long")
    survey = await survey_of(listings, stop=stop)
    assert (survey.unfinished, survey.stale) == ("the sweep took too long", [])
    assert listings.pages_read == 4


async def test_a_shorter_limit_of_some_processor_is_read_for_too():
    listings = Listings(
        [item("clr_a", 200), item("clr_b", 50), item("clr_c", 20, classifier={"id": "cl_fast"})], size=1
    )
    survey = await survey_of(listings, minutes_by_processor={"cl_fast": 10})
    assert ids(survey) == ["clr_a", "clr_c"]


@given(st.lists(st.integers(0, 200), min_size=2, max_size=30), st.integers(2, 7), st.randoms(use_true_random=False))
async def test_a_listing_in_no_order_hides_no_run(ages, size, random):
    items = [item(f"clr_{n}", minutes) for n, minutes in enumerate(ages)]
    random.shuffle(items)
    first = [each["updatedAt"] for each in items[:size]]
    # A page that happens to be in order and to end young cannot be told from a sorted listing.
    if first == sorted(first):
        items[:size] = sorted(items[:size], key=lambda each: each["updatedAt"], reverse=True)
        if len(set(first)) < 2:
            return
    survey = await survey_of(Listings(items, size=size, in_order=False), refuse_above=5000, outage_guard=False)
    assert set(ids(survey)) == {f"clr_{n}" for n, minutes in enumerate(ages) if minutes > 60}


async def test_a_listing_that_cannot_be_sorted_is_read_to_its_end():
    listings = Listings([item(f"pr_{n}", 5) for n in range(9)] + [item("pr_last", 100)])
    assert ids(await survey_of(listings, kind="parse")) == ["pr_last"]
    assert listings.pages_read == 4


async def test_a_run_that_is_listed_twice_is_selected_once():
    survey = await survey_of(Listings([item("clr_a", 100)] * 5, size=2))
    assert ids(survey) == ["clr_a"]
    assert survey.listed == 1


async def test_a_total_limit_asks_by_creation_too_and_finds_what_keeps_changing():
    listings = Listings([item("clr_a", 100), *(item(f"clr_y{n}", 10) for n in range(9)), item("clr_b", 1, created=600)])
    survey = await survey_of(listings, max_total_minutes=300)
    assert ids(survey) == ["clr_a", "clr_b"]
    assert [asked["sort_by"] for asked in listings.asked] == ["updatedAt", "createdAt"]


async def test_without_a_total_limit_there_is_one_listing():
    listings = Listings([item("clr_a", 100)])
    await survey_of(listings)
    assert [asked["sort_by"] for asked in listings.asked] == ["updatedAt"]


async def test_the_filters_of_the_policy_are_asked_for():
    listings = Listings([])
    await survey_of(listings, source="API", batch_id="bpr_1", file_name_contains="inv")
    assert listings.asked == [
        {
            "status": "PROCESSING",
            "sort_by": "updatedAt",
            "sort_dir": "asc",
            "source": "API",
            "batch_id": "bpr_1",
            "file_name_contains": "inv",
        }
    ]


async def test_a_filter_that_the_kind_does_not_know_is_refused_before_any_request():
    listings = Listings([item("wfr_1", 100)])
    with pytest.raises(ExtendInputError):
        await survey_of(listings, kind="workflow", source="API")
    assert listings.asked == []


async def test_an_ignored_status_filter_selects_nothing_else():
    every = [
        item(f"clr_{status}", 100, status=status) for status in ("PENDING", "PROCESSED", "FAILED", "CANCELLED", "NEW")
    ]
    survey = await survey_of(Listings([*every, item("clr_a", 100)], in_order=False))
    assert ids(survey) == ["clr_a"]
    assert survey.exempt == {Exempt.OTHER_STATUS: 5}


async def test_a_listing_without_the_apis_clock_cancels_nothing():
    with pytest.raises(ExtendOddAnswerError, match="Date header"):
        await survey_of(Listings([item("clr_a", 100)], read_at=None))


async def test_a_listing_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr("prefect_extend_ai.survey.MOST_PAGES", 5)
    listings = Listings([item(f"clr_{n}", 100) for n in range(50)], size=5)
    with pytest.raises(ExtendOddAnswerError, match="no end"):
        await survey_of(listings)
    assert listings.pages_read == 6


async def test_items_that_cannot_be_read_or_cancelled_are_counted():
    survey = await survey_of(Listings([item("clr/../x", 100), item("clr_a", 100)], unreadable=2, size=9))
    assert ids(survey) == ["clr_a"]
    assert survey.exempt == {Exempt.UNREADABLE: 3}
    assert survey.listed == 4


async def test_every_run_in_progress_is_in_a_band_of_age():
    survey = await survey_of(Listings([item("clr_a", 20), item("clr_b", 100), item("clr_c", 4000)], size=9))
    assert survey.ages == {"up to ½": 1, "1 to 2": 1, "over 20": 1}


async def test_callers_may_keep_the_runs_themselves():
    kept = []
    listings = Listings([item("clr_a", 100, metadata={"x": 1}), item("clr_b", 1)])
    await take_survey(listings, RunKind.CLASSIFY, 60, StalePolicy(), keep=kept.append)
    assert [(run.id, run.metadata) for run in kept] == [("clr_a", {"x": 1})]


@pytest.mark.parametrize(("stale", "above", "refused"), [(3, 3, False), (4, 3, True), (1, 0, True), (0, 0, False)])
async def test_more_than_refuse_above_is_refused(stale, above, refused):
    survey = await survey_of(Listings([item(f"clr_{n}", 100) for n in range(stale)]), refuse_above=above)
    assert (survey.refusal is not None) == refused
    assert len(survey.stale) == stale


def backlog(count=OUTAGE_FROM):
    return [item(f"clr_{n}", 100 + n) for n in range(count)]


@pytest.mark.parametrize(
    ("others", "down"),
    [
        ([], True),
        ([item("clr_d", 61, status="PROCESSED")], True),
        ([item("clr_d", 60, status="PROCESSED")], False),
        ([item("clr_f", 5, status="FAILED", failureReason="OCR_ERROR")], False),
        # Cancelled by hand, or by an earlier sweep: no sign that anything works.
        ([item("clr_f", 5, status="FAILED", failureReason="ABORTED")], True),
        ([item("clr_c", 5, status="CANCELLED")], True),
    ],
)
async def test_many_stale_and_nothing_finished_is_an_outage(others, down):
    survey = await survey_of(Listings(backlog() + others, size=50))
    assert (survey.refusal is not None) == down
    assert len(survey.stale) == OUTAGE_FROM


async def test_the_outage_guard_costs_nothing_below_its_threshold_or_switched_off():
    few = Listings(backlog(OUTAGE_FROM - 1), size=50)
    assert (await survey_of(few)).refusal is None
    off = Listings(backlog(), size=50)
    assert (await survey_of(off, outage_guard=False)).refusal is None
    assert len(few.asked) == len(off.asked) == 1


async def test_the_outage_guard_reads_one_page_a_status_or_a_few_where_it_cannot_sort():
    done = [item(f"clr_d{n}", 200 + n, status="PROCESSED") for n in range(90)]
    listings = Listings(backlog() + done, size=20)
    assert (await survey_of(listings)).refusal
    assert [asked["status"] for asked in listings.asked] == ["PROCESSING", "PROCESSED", "FAILED"]
    assert listings.pages_read == 1 + 1 + 1
    unsorted = Listings(backlog() + [item(f"pr_d{n}", 200, status="PROCESSED") for n in range(20 * 20)], size=20)
    assert (await survey_of(unsorted, kind="parse")).refusal
    assert unsorted.pages_read == 1 + PAGES_UNSORTED + 1


async def test_a_survey_that_asks_no_guard_reads_no_more_than_the_listing():
    listings = Listings(backlog(), size=50)
    survey = await take_survey(listings, RunKind.CLASSIFY, 60, StalePolicy())
    assert survey.refusal is None
    assert len(listings.asked) == 1


async def test_a_sweep_that_is_stopped_while_the_outage_guard_reads_refuses_nothing_and_selects_nothing():
    listings = Listings(backlog(), size=50)
    stop = Stop(lambda: len(listings.asked))
    stop.after(2, "the sweep took too long")
    survey = await survey_of(listings, stop=stop)
    assert (survey.unfinished, survey.refusal, survey.stale) == ("the sweep took too long", None, [])
    assert [asked["status"] for asked in listings.asked] == ["PROCESSING", "PROCESSED"]


@pytest.mark.parametrize(("status", "down"), [("NEEDS_REVIEW", False), ("REJECTED", False), ("CANCELLED", True)])
async def test_workflows_that_end_with_a_person_show_that_extend_is_up(status, down):
    survey = await survey_of(Listings([*backlog(), item("wfr_1", 5, status=status)], size=50), kind="workflow")
    assert (survey.refusal is not None) == down


@pytest.mark.parametrize("minutes", [-5, 0, 5_256_001])
async def test_a_limit_that_is_none_is_refused_before_any_request(minutes):
    listings = Listings([item("clr_1", 1)])
    with pytest.raises(ExtendInputError, match=f"max_processing_minutes is {minutes}: take at least 1"):
        await survey_of(listings, limit=minutes)
    assert listings.asked == []


async def test_the_outage_guard_is_not_misled_by_an_empty_page():
    class EmptyFirst(Listings):
        async def iter_pages(self, kind, **asked):
            yield Page([], unreadable=0, read_at=self.read_at)
            async for page in super().iter_pages(kind, **asked):
                yield page

    assert (await survey_of(EmptyFirst([*backlog(), item("clr_d", 5, status="PROCESSED")], size=50))).refusal is None


def test_a_target_that_was_not_reached_still_says_how_old_it_is():
    run = Run.from_item("classify", item("clr_a", 90, dashboardUrl="https://dashboard.extend.ai/runs/clr_a"), NOW)
    said = Target.of(run).cancellation(Outcome.DEFERRED, "over the cap")
    assert (said.run_id, said.outcome, said.reason, said.age_minutes) == (
        "clr_a",
        Outcome.DEFERRED,
        "over the cap",
        90.0,
    )
    assert said.dashboard_url == "https://dashboard.extend.ai/runs/clr_a"
    assert Target.of(Run.from_item("classify", {"id": "clr_b"})).age_minutes is None
