"""A survey finds every stale run in a listing of any sort, and asks the guards before anything is cancelled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.client import Page
from prefect_extend_ai.client.clocks import ClockDifference
from prefect_extend_ai.errors import (
    ExtendInputError,
    ExtendNotFoundError,
    ExtendRefusedError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource
from prefect_extend_ai.sweep.rules.staleness import Exempt, StalePolicy
from prefect_extend_ai.sweep.scan import Target, guarded_scan, scan_runs
from prefect_extend_ai.sweep.stop import Stop

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def item(run_id, minutes, status="PROCESSING", created=None, **fields):
    updated = (NOW - timedelta(minutes=minutes)).isoformat()
    made = (NOW - timedelta(minutes=minutes if created is None else created)).isoformat()
    return {"id": run_id, "status": status, "updatedAt": updated, "createdAt": made} | fields


class Listings:
    """A scripted ExtendClient: pages of a list of items, in the requested order by default.

    What an item has with an underscore before it (`_source`, `_batch_id`, `_name`) is filtered by and not shown.

    Attributes:
        ignores: parameters that are ignored: `sort_by`, `sort_dir` and the names of filters.
        refuses: values of filters that are answered with an error.
        asked: what was asked for, one a listing.
    """

    def __init__(
        self, items, *, size=3, in_order=True, read_at=NOW, unreadable=0, ignores=(), refuses=None, date=None, ours=None
    ):
        self.items = items
        self.size = size
        self.in_order = in_order
        self.read_at = read_at
        self.date, self.ours = date, ours
        self.unreadable = unreadable
        self.ignores = ignores
        self.refuses = refuses
        self.asked = []
        self.pages_read = 0

    async def iter_pages(
        self, kind, *, status="PROCESSING", sort_by="updatedAt", sort_dir="asc", page_size=None, **filters
    ):
        self.asked.append({"status": status, "sort_by": sort_by, "sort_dir": sort_dir} | filters)
        filters = {name: value for name, value in filters.items() if value is not None and name not in self.ignores}
        if self.refuses and set(filters.values()) - {"API", "bpr_1"}:
            raise self.refuses
        found = [
            each
            for each in self.items
            if not isinstance(each, dict) or each["status"] == status or not self.in_order
            if all(each.get(f"_{name}", "odd.pdf") == value for name, value in filters.items())
        ]
        if self.in_order and RunKind(kind).sortable:
            by = "createdAt" if "sort_by" in self.ignores else sort_by
            found = sorted(found, key=lambda each: each[by])
            found = found[::-1] if sort_dir == "desc" and "sort_dir" not in self.ignores else found
        size = min(page_size or self.size, self.size)
        for start in range(0, max(len(found), 1), size):
            self.pages_read += 1
            shown = [
                {name: value for name, value in each.items() if name[0] != "_"} for each in found[start : start + size]
            ]
            runs = [Run.from_item(kind, each, self.read_at, self.date) for each in shown]
            yield Page(runs, self.unreadable, self.read_at, self.date, self.ours)


async def survey_of(listings, *, kind="classify", limit=60, stop=None, **policy):
    # Limits that are learned have separate tests, and cost a request.
    policy = StalePolicy(**{"learn_limits": False} | policy)
    return await guarded_scan(listings, RunKind(kind), limit, policy, stop=stop)


def ids(survey):
    return [target.run_id for target in survey.stale]


async def test_stale_runs_come_oldest_first_and_the_rest_is_counted():
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
    assert survey.stale[0] == Target(
        *("clr_old", NOW - timedelta(minutes=500), NOW - timedelta(minutes=500), 500.0),
        limit=Limit(60, LimitSource.PERSON),
    )


async def test_a_sorted_listing_is_read_to_the_first_young_run():
    listings = Listings([item(f"clr_{n}", n) for n in range(1, 1000)], size=20)
    survey = await survey_of(listings, limit=990, outage_guard=False)
    assert len(survey.stale) == 9
    assert listings.pages_read == 1


async def test_a_few_runs_in_order_do_not_prove_that_a_listing_sorts():
    # The server's own order happens to begin with two runs in order, the second too young.
    items = [item("clr_a", 70), item("clr_b", 10), item("clr_c", 5), item("clr_old", 500)]
    for size in (1, 2, 3):
        assert ids(await survey_of(Listings(items, size=size, in_order=False))) == ["clr_old", "clr_a"]


async def test_a_listing_by_creation_instead_of_change_hides_no_run():
    # Created first and changed a moment ago, before one that was created later and never changed since.
    waited = [item(f"clr_w{n:02}", 40 - n, created=900 - n) for n in range(30)]
    listings = Listings([*waited, item("clr_old", 500)], size=10, ignores={"sort_by"})
    assert ids(await survey_of(listings)) == ["clr_old"]


async def test_few_runs_on_one_page_cost_one_request():
    listings = Listings([item("clr_a", 20), item("clr_b", 10)], size=100)
    await survey_of(listings)
    assert (listings.pages_read, len(listings.asked)) == (1, 1)


async def test_runs_that_waited_long_in_the_queue_cost_no_more_pages():
    waited = [item(f"clr_{n}", 58 - n / 2, created=600 - (n * 37) % 50) for n in range(100)]
    listings = Listings([item("clr_old", 500), *waited], size=50)
    assert ids(await survey_of(listings)) == ["clr_old"]
    assert listings.pages_read == 1 + 3  # and the guard's three looks at what was cancelled


async def test_a_stopped_sweep_reads_no_further_page():
    class Stopping(Listings):
        async def iter_pages(self, *args, **options):
            async for page in super().iter_pages(*args, **options):
                if self.pages_read == 4:
                    stop.set("the sweep took too long")
                yield page

    listings, stop = Stopping([item(f"clr_{n}", 100 + n) for n in range(9)], size=1), Stop()
    survey = await survey_of(listings, stop=stop)
    assert (survey.unfinished, survey.stale) == ("the sweep took too long", [])
    assert listings.pages_read == 4


async def test_a_shorter_limit_of_some_processor_is_read_for_too():
    listings = Listings(
        [item("clr_a", 200), item("clr_b", 50), item("clr_c", 20, classifier={"id": "cl_fast"})], size=1
    )
    survey = await survey_of(listings, minutes_by_processor={"cl_fast": 10}, outage_guard=False)
    assert ids(survey) == ["clr_a", "clr_c"]


@given(st.lists(st.integers(0, 200), min_size=2, max_size=30), st.integers(2, 7), st.randoms(use_true_random=False))
async def test_a_listing_in_no_order_hides_no_run(ages, size, random):
    items = [item(f"clr_{n}", minutes) for n, minutes in enumerate(ages)]
    random.shuffle(items)
    survey = await survey_of(Listings(items, size=size, in_order=False), refuse_above=5000, outage_guard=False)
    assert set(ids(survey)) == {f"clr_{n}" for n, minutes in enumerate(ages) if minutes > 60}


async def test_a_listing_that_cannot_be_sorted_is_read_to_its_end():
    listings = Listings([item(f"pr_{n}", 5) for n in range(9)] + [item("pr_last", 100)])
    assert ids(await survey_of(listings, kind="parse", outage_guard=False)) == ["pr_last"]
    assert listings.pages_read == 4


async def test_a_run_that_is_listed_twice_is_selected_once():
    survey = await survey_of(Listings([item("clr_a", 100)] * 5, size=2))
    assert ids(survey) == ["clr_a"]
    assert survey.listed == 1


async def test_a_total_limit_finds_what_keeps_changing():
    listings = Listings([item("clr_a", 100), *(item(f"clr_y{n}", 10) for n in range(9)), item("clr_b", 1, created=600)])
    survey = await survey_of(listings, max_total_minutes=300, outage_guard=False)
    assert ids(survey) == ["clr_a", "clr_b"]
    assert [asked["sort_by"] for asked in listings.asked] == ["updatedAt", "createdAt"]


async def test_without_a_total_limit_there_is_one_listing():
    listings = Listings([item("clr_a", 100)])
    await survey_of(listings, outage_guard=False)
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


async def test_an_unknown_filter_is_refused_before_any_request():
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
    with pytest.raises(ExtendUnexpectedResponseError, match="Date header"):
        await survey_of(Listings([item("clr_a", 100)], read_at=None))


async def test_a_listing_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr("prefect_extend_ai.sweep.rules.pages.MOST_PAGES", 5)
    listings = Listings([item(f"clr_{n}", 100) for n in range(50)], size=5)
    with pytest.raises(ExtendUnexpectedResponseError, match="no end"):
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
    await scan_runs(listings, RunKind.CLASSIFY, 60, StalePolicy(), keep=kept.append)
    assert [(run.id, run.metadata) for run in kept] == [("clr_a", {"x": 1})]


@pytest.mark.parametrize(("stale", "above", "refused"), [(3, 3, False), (4, 3, True), (1, 0, True), (0, 0, False)])
async def test_more_than_refuse_above_is_refused(stale, above, refused):
    survey = await survey_of(Listings([item(f"clr_{n}", 100) for n in range(stale)]), refuse_above=above)
    assert (survey.refusal is not None) == refused
    assert len(survey.stale) == stale


def in_progress(listings):
    return [asked for asked in listings.asked if asked["status"] == "PROCESSING"]


OTHERS = [item(f"clr_o{n}", 200 + n, _source="STUDIO", _batch_id="bpr_2") for n in range(3)]
OURS = [item(f"clr_u{n}", 100 + n, _source="API", _batch_id="bpr_1") for n in range(3)]
FILTERS = [("source", "API"), ("batch_id", "bpr_1")]


@pytest.mark.parametrize(("name", "value"), FILTERS)
async def test_an_ignored_filter_cancels_nobody_elses_runs(name, value):
    survey = await survey_of(Listings(OTHERS + OURS, ignores={name}), **{name: value})
    assert f"ignores {name}" in survey.refusal


@pytest.mark.parametrize(("name", "value"), FILTERS)
@pytest.mark.parametrize("both", [False, True])
async def test_one_ignored_filter_of_two_is_noticed(name, value, both):
    filters = dict(FILTERS)
    survey = await survey_of(Listings(OTHERS + OURS, ignores=set(filters) if both else {name}), **filters)
    assert f"ignores {'source' if both else name}" in survey.refusal


@pytest.mark.parametrize(("name", "value"), FILTERS)
@pytest.mark.parametrize("items", [OTHERS + OURS, OURS])
async def test_a_filter_that_all_runs_match_is_not_called_ignored(name, value, items):
    listings = Listings(items)
    survey = await survey_of(listings, **{name: value})
    assert survey.refusal is None
    assert sorted(ids(survey)) == ["clr_u0", "clr_u1", "clr_u2"]


@pytest.mark.parametrize(("name", "value"), FILTERS)
@pytest.mark.parametrize("error", [ExtendRefusedError("unknown value", status=400), ExtendNotFoundError("no batch")])
async def test_a_server_that_refuses_an_impossible_value_has_read_it(name, value, error):
    survey = await survey_of(Listings(OURS, refuses=error), **{name: value})
    assert (survey.refusal, len(survey.stale)) == (None, 3)


@pytest.mark.parametrize(("name", "value"), FILTERS)
async def test_a_filter_costs_nothing_more_where_nothing_is_stale(name, value):
    listings = Listings([item("clr_u", 10, _source="API", _batch_id="bpr_1")])
    assert (await survey_of(listings, **{name: value})).refusal is None
    assert len(listings.asked) == 1


@pytest.mark.parametrize(
    ("kind", "filters", "shown"),
    [
        ("parse", {"batch_id": "bpr_1"}, {"batchId": "bpr_2"}),
        ("workflow", {"batch_id": "bpr_1"}, {"batchId": "bpr_2"}),
        ("verify", {"source": "API"}, {"source": "STUDIO"}),
    ],
)
async def test_what_a_summary_says_of_its_origin_is_compared(kind, filters, shown):
    ours = dict(zip(shown, filters.values(), strict=True))
    mixed = [item("r_1", 100, **ours), item("r_2", 5, **shown)]
    survey = await survey_of(Listings(mixed, ignores=set(filters)), kind=kind, **filters)
    assert f"ignores {next(iter(filters))}" in survey.refusal
    assert "r_2" in survey.refusal
    # Where every summary confirms it, nothing more has to be asked.
    listings = Listings([item("r_1", 100, **ours)], ignores=set(filters))
    survey = await survey_of(listings, kind=kind, **filters)
    assert (survey.refusal, ids(survey), len(in_progress(listings))) == (None, ["r_1"], 1 + 1)


async def test_a_summary_without_a_batch_is_in_doubt_and_asked_for():
    nobodys = [item("pr_1", 100, batchId=None, _batch_id=None)]
    survey = await survey_of(Listings(nobodys, ignores={"batch_id"}), kind="parse", batch_id="bpr_1")
    assert "ignores batch_id" in survey.refusal


async def test_an_empty_first_page_hides_no_ignored_filter():
    class EmptyFirst(Listings):
        async def iter_pages(self, kind, **asked):
            yield Page([], 0, self.read_at)
            async for page in super().iter_pages(kind, **asked):
                yield page

    survey = await survey_of(EmptyFirst(OTHERS, ignores={"batch_id"}), batch_id="bpr_1")
    assert "ignores batch_id" in survey.refusal


async def test_a_scan_without_guards_says_that_a_filter_is_ignored():
    survey = await scan_runs(Listings(OTHERS, ignores={"source"}), RunKind.CLASSIFY, 60, StalePolicy(source="API"))
    assert "ignores source" in survey.refusal


async def test_a_wrong_clock_is_reported_with_whose_it_is():
    ahead = NOW + timedelta(hours=2)
    survey = await survey_of(Listings([item("clr_a", 1)], date=ahead, ours=NOW))
    assert survey.clocks == ClockDifference(7200, "extend")
    assert survey.now == NOW
    assert (await survey_of(Listings([item("clr_a", 1)], date=NOW, ours=NOW))).clocks is None


async def test_runs_ahead_of_our_slow_clock_are_young_not_future():
    # Our clock is behind by a minute: what changed a moment ago lies in its future.
    listings = Listings([item("clr_a", -0.9, created=300)], read_at=NOW, date=NOW + timedelta(minutes=1), ours=NOW)
    assert (await survey_of(listings)).exempt == {Exempt.TOO_YOUNG: 1}
    assert ids(await survey_of(listings, max_total_minutes=200)) == ["clr_a"]


async def test_stale_runs_whose_metadata_looks_like_a_hold_are_named():
    items = [
        item("clr_a", 100, metadata={"ops": {"hold": True}}),
        item("clr_b", 100),
        item("clr_c", 9, metadata={"hold": 1}),
    ]
    survey = await survey_of(Listings(items))
    assert (survey.looks_held, ids(survey)) == (["clr_a"], ["clr_a", "clr_b"])
    held = await survey_of(Listings(items), hold_key="ops.hold")
    assert (held.looks_held, held.exempt[Exempt.HELD]) == ([], 1)


async def test_an_excepted_run_is_counted_and_not_selected():
    survey = await survey_of(Listings([item("clr_a", 100), item("clr_b", 90)]), except_runs=["clr_a"])
    assert (ids(survey), survey.exempt) == (["clr_b"], {Exempt.EXCEPT_RUN: 1})


async def test_a_scan_without_guards_reads_only_the_listing():
    listings = Listings([item(f"clr_{n}", 100 + n) for n in range(30)], size=50)
    survey = await scan_runs(listings, RunKind.CLASSIFY, 60, StalePolicy())
    assert survey.refusal is None
    assert len(listings.asked) == 1


@pytest.mark.parametrize("minutes", [-5, 0, 5_256_001])
async def test_a_limit_that_is_none_is_refused_before_any_request(minutes):
    listings = Listings([item("clr_1", 1)])
    with pytest.raises(ExtendInputError, match=f"max_processing_minutes is {minutes}: take at least 1"):
        await survey_of(listings, limit=minutes)
    assert listings.asked == []


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
