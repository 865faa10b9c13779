from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.sandbox import Trouble, World, serve
from prefect_extend_ai.sandbox.troubles import CHAOS_SHARE, Troubles

HEADERS = {"Authorization": "Bearer sk_sandbox", "x-extend-api-version": "2026-02-09"}

# Each trouble really does what it says, over a real connection.


class Troubled:
    """One stuck run behind a server, and a client of it."""

    def __init__(self, world: World, client: httpx.Client) -> None:
        self.world = world
        self.client = client
        self.run_id = world.add(age_minutes=90)
        self.path = f"/classify_runs/{self.run_id}"

    def suffers(self, trouble: str) -> None:
        self.world.troubles.add(trouble.replace("RUN", self.run_id))

    def cancel(self) -> httpx.Response:
        return self.client.post(f"{self.path}/cancel")

    @property
    def status(self) -> str:
        return self.world.get(self.run_id).status


@pytest.fixture(scope="module")
def served():
    with serve(World()) as running, httpx.Client(base_url=running.url, headers=HEADERS, timeout=5) as client:
        yield running.world, client


@pytest.fixture
def troubled(served):
    world, client = served
    world.troubles.clear()
    return Troubled(world, client)


@pytest.mark.parametrize(("what", "left"), [("reset", "PROCESSING"), ("reset-after", "CANCELLED")])
def test_a_reset_drops_the_connection(troubled, what, left):
    troubled.suffers(f"cancel:RUN:{what}")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        troubled.cancel()
    assert troubled.status == left
    assert troubled.world.journal[-1].status is None
    assert troubled.world.journal[-1].acted is (left == "CANCELLED")
    # And only once: the next request is answered again.
    assert troubled.client.get(troubled.path).json()["status"] == left


@pytest.mark.parametrize(("what", "left"), [("slow=0.5", "PROCESSING"), ("slow-after=0.5", "CANCELLED")])
def test_a_slow_response_takes_its_time(troubled, what, left):
    troubled.suffers(f"cancel:RUN:{what}")
    with pytest.raises(httpx.ReadTimeout):
        troubled.client.post(f"{troubled.path}/cancel", timeout=0.1)
    assert troubled.status == left


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(("after", "left"), [("", "PROCESSING"), ("-after", "CANCELLED")])
def test_any_error_comes_before_or_after_the_request_took_effect(troubled, status, after, left):
    troubled.suffers(f"cancel:RUN:{status}{after}")
    answer = troubled.cancel()
    assert answer.status_code == status
    assert answer.json()["retryable"] is (status in (408, 429) or status >= 500)
    assert answer.headers["x-extend-request-id"] == answer.json()["requestId"]
    assert "Retry-After" not in answer.headers
    assert troubled.status == left


@pytest.mark.parametrize(("what", "header"), [("503=2", "2"), ("429-after=0.5", "0.5")])
def test_an_error_may_say_when_to_retry(troubled, what, header):
    troubled.suffers(f"cancel:RUN:{what}")
    assert troubled.cancel().headers["Retry-After"] == header


@pytest.mark.parametrize(
    ("what", "shown"),
    [("empty", (200, "")), ("html", (200, "<html")), ("list", (200, "[]")), ("redirect", (302, ""))],
)
@pytest.mark.parametrize(("after", "left"), [("", "PROCESSING"), ("-after", "CANCELLED")])
def test_a_fault_comes_before_or_after_the_request_took_effect(troubled, what, shown, after, left):
    troubled.suffers(f"cancel:RUN:{what}{after}")
    answer = troubled.cancel()
    assert (answer.status_code, answer.text[:5]) == shown
    assert troubled.status == left


def test_a_redirect_leads_to_another_host(troubled):
    troubled.suffers("get:RUN:redirect")
    assert troubled.client.get(troubled.path).headers["Location"].startswith("https://elsewhere.example.com/")
    troubled.suffers("get:RUN:redirect=http://127.0.0.1:9/away@2")
    troubled.client.get(troubled.path)
    assert troubled.client.get(troubled.path).headers["Location"] == "http://127.0.0.1:9/away"


def test_a_run_changes_right_before_the_request(troubled):
    troubled.suffers("cancel:RUN:finish")
    assert troubled.cancel().status_code == 400
    assert troubled.status == "PROCESSED"


def test_a_run_takes_an_unknown_status(troubled):
    troubled.suffers("get:RUN:status=QUARANTINED")
    assert troubled.client.get(troubled.path).json()["status"] == "QUARANTINED"
    assert troubled.cancel().status_code == 400


def test_a_touched_run_is_no_longer_stale(troubled):
    troubled.suffers("get:RUN:touch")
    assert troubled.run_id in troubled.world.stale()
    assert troubled.client.get(troubled.path).json()["status"] == "PROCESSING"
    assert troubled.run_id not in troubled.world.stale()


@pytest.mark.parametrize(("mode", "left"), [("never", "PROCESSING"), ("finishes", "PROCESSED"), ("later", "CANCELLED")])
def test_one_run_may_have_its_own_cancel_mode(still, mode, left):
    world = still(troubles=[f"cancel:clr_odd:cancel={mode}"])
    odd, plain = world.add(id="clr_odd"), world.add()
    client = httpx.Client(headers=HEADERS)
    with serve(world) as running, client:
        answers = [client.post(f"{running.url}/classify_runs/{each}/cancel").json()["status"] for each in (odd, plain)]
    assert answers == ["PROCESSING", "CANCELLED"]
    world.advance(seconds=10)
    assert world.get(odd).status == left


# When a trouble strikes.


async def statuses(client, path, times):
    return [(await client.get(path)).status_code for _ in range(times)]


@pytest.mark.parametrize(
    ("when", "struck"),
    [("", [1]), ("@1", [1]), ("@3", [3]), ("@2-4", [2, 3, 4]), ("@4-", [4, 5, 6])],
)
async def test_a_fault_rule_applies_when_it_says(still, reach, when, struck):
    world = still(troubles=[f"get:*:500{when}"])
    async with reach(world) as client:
        seen = await statuses(client, f"/classify_runs/{world.add()}", 6)
    assert [number for number, status in enumerate(seen, 1) if status == 500] == struck


async def test_an_outage_lasts_as_long_as_it_says(still, reach):
    world = still(troubles=["any:*:outage=30@2"])
    async with reach(world) as client:
        path = f"/classify_runs/{world.add()}"
        world.advance(minutes=5)
        assert await statuses(client, path, 3) == [200, 503, 503]
        world.advance(seconds=29)
        assert (await client.post(f"{path}/cancel")).status_code == 503
        world.advance(seconds=1)
        assert await statuses(client, path, 2) == [200, 200]


async def test_a_key_may_be_revoked_in_the_middle(still, reach):
    world = still(troubles=["any:*:401@3-"])
    async with reach(world) as client:
        assert await statuses(client, "/classify_runs", 5) == [200, 200, 401, 401, 401]


async def test_a_pattern_picks_runs_and_a_listing_goes_by_its_kind(still, reach):
    world = still(troubles=["get:exr_*:500@1-", "list:parse:502@1-"])
    classify, extract = world.add(), world.add("extract")
    async with reach(world) as client:
        assert (await client.get(f"/classify_runs/{classify}")).status_code == 200
        assert (await client.get(f"/extract_runs/{extract}")).status_code == 500
        assert (await client.get("/extract_runs")).status_code == 200
        assert (await client.get("/parse_runs")).status_code == 502


async def test_in_process_a_reset_is_an_error_of_the_connection_too(still, reach):
    world = still(troubles=["cancel:*:reset-after"])
    run_id = world.add()
    async with reach(world) as client:
        with pytest.raises(httpx.ReadError):
            await client.post(f"/classify_runs/{run_id}/cancel")
    assert world.get(run_id).status == "CANCELLED"


async def test_a_slow_response_uses_the_worlds_sleep(still, reach):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    world = still(troubles=["list:*:slow=3600", "list:*:slow-after=7@2"], sleep=sleep)
    async with reach(world) as client:
        assert await statuses(client, "/classify_runs", 2) == [200, 200]
    assert slept == [3600, 7]


# How it is written.

written = st.builds(
    lambda where, which, what, when: f"{where}:{which}:{what}{when}",
    st.sampled_from(["list", "get", "cancel", "create", "delete", "any"]),
    st.sampled_from(["*", "clr_a", "clr_*", "parse"]),
    st.sampled_from(
        ["reset", "reset-after", "slow=2", "503=1", "500-after", "finish", "status=X", "cancel=never", "touch"]
    ),
    st.sampled_from(["", "@2", "@2-5", "@1-", "@1-3"]),
)


@given(written)
def test_a_fault_rule_is_written_the_way_it_is_read(text):
    assert str(Trouble.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("reset", "WHERE:WHICH:WHAT"),
        ("cancel:reset", "WHERE:WHICH:WHAT"),
        ("somewhere:*:reset", "'somewhere' is not one of"),
        ("cancel:*:explode", "'explode' is neither a status"),
        ("cancel:*:200", "'200' is neither a status"),
        ("cancel:*:slow", "takes seconds"),
        ("cancel:*:slow=-1", "takes seconds"),
        ("cancel:*:slow=nan", "takes seconds"),
        ("cancel:*:503=soon", "takes seconds"),
        ("cancel:*:finish-after", "has no -after"),
        ("cancel:*:status", "takes a name"),
        ("cancel:*:cancel=maybe", "takes one of at_once"),
        ("cancel:*:reset@0", "@2-4"),
        ("cancel:*:reset@x", "@2-4"),
    ],
)
def test_a_fault_rule_that_cannot_be_read_is_explained(text, why):
    with pytest.raises(ExtendInputError, match=why):
        World(troubles=[text])


# Chaos.


def struck_by(seed, requests):
    troubles = Troubles(chaos=seed)
    return [str(troubles.strike(*request, now=World().now())) for request in requests]


def test_chaos_depends_on_its_seed_and_not_on_the_order(still):
    mine = [("cancel", f"clr_{number}") for number in range(300)]
    forth, back = struck_by(7, mine), struck_by(7, mine[::-1])[::-1]
    assert forth == back
    assert forth != struck_by(8, mine)
    share = sum(each != "None" for each in forth) / len(forth)
    assert CHAOS_SHARE / 2 < share < CHAOS_SHARE * 2
    assert len({each.split(":")[-1] for each in forth}) > 10


def test_chaos_strikes_ids_with_a_colon_too():
    assert len({str(Troubles(chaos=seed).strike("get", "clr:a", now=World().now())) for seed in range(99)}) > 5


def test_retries_succeed_against_chaos():
    for seed in range(50):
        struck = struck_by(seed, [("get", "clr_a")] * 10)
        assert struck[3:] == ["None"] * 7


def test_an_outage_is_counted_by_the_worlds_clock(still):
    now = still().now()
    troubles = Troubles(["any:*:outage=10"])
    assert troubles.strike("get", "a", now) is not None
    assert troubles.strike("get", "a", now + timedelta(seconds=9.9)) is not None
    assert troubles.strike("get", "a", now + timedelta(seconds=10)) is None
