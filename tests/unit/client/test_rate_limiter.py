"""A rate limiter keeps the rate, keeps the order, and listens to the API."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.client.rate_limiter import LEAD, RateLimiter, TooLate
from support.virtual_time import VirtualLoop

pytestmark = pytest.mark.virtual_time


def now():
    return asyncio.get_running_loop().time()


def late(seconds):
    """By how much later the next waits end, one after the other."""
    asyncio.get_running_loop().lateness.extend(seconds)


async def times_of(limiter, count):
    taken = []
    for _ in range(count):
        await limiter.acquire()
        taken.append(now())
    return taken


def most_in_one_second(times):
    return max(sum(1 for other in times if start <= other < start + 1) for start in times)


async def test_requests_are_spaced_evenly_and_the_first_does_not_wait():
    times = await times_of(RateLimiter(10), 12)
    assert times[0] == 0
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert gaps == pytest.approx([0.1 / 0.98] * 10)


async def test_first_come_first_served():
    order = []
    limiter = RateLimiter(10)

    async def go(number):
        await limiter.acquire()
        order.append(number)

    await asyncio.gather(*(go(number) for number in range(30)))
    assert order == list(range(30))


@given(st.lists(st.floats(0, 1.5), max_size=120), st.sampled_from([1, 10, 25, 75]))
def test_no_second_has_more_than_the_rate_even_after_late_sleeps(lateness, per_second):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.get_loop().lateness.extend(lateness)
        times = runner.run(times_of(RateLimiter(per_second), 150))
    assert most_in_one_second(times) <= per_second


async def test_sleeps_that_end_a_little_late_cost_no_throughput():
    late([0.006] * 750)  # nearly half of the 13 ms between two requests, each time
    times = await times_of(RateLimiter(75), 750)
    assert 750 / (times[-1] - times[0]) >= 0.95 * 75


async def test_no_request_goes_before_the_end_of_a_requested_pause():
    limiter = RateLimiter(10)
    epoch = await limiter.acquire()
    limiter.on_throttled(epoch, 3.5)
    await limiter.acquire()
    assert now() == pytest.approx(3.5)


async def test_a_pause_holds_waiting_requests_too():
    limiter = RateLimiter(10)
    epoch = await limiter.acquire()
    asyncio.get_running_loop().call_later(0.001, lambda: limiter.on_throttled(epoch, 7))
    await limiter.acquire()
    assert now() >= 7


async def test_a_pause_of_zero_halves_the_rate_without_a_pause():
    limiter = RateLimiter(10)
    full = limiter.per_second
    limiter.on_throttled(await limiter.acquire(), 0)
    await limiter.acquire()
    assert now() < 0.2
    assert limiter.per_second == full / 2


async def test_a_wave_of_429s_halves_the_rate_once():
    limiter = RateLimiter(40)
    full = limiter.per_second
    epochs = [await limiter.acquire() for _ in range(8)]
    for epoch in epochs:
        limiter.on_throttled(epoch, 1)
    assert limiter.per_second == full / 2
    limiter.on_throttled(await limiter.acquire(), 1)
    assert limiter.per_second == full / 4


async def test_an_old_epoch_lengthens_the_pause_and_never_shortens_it():
    limiter = RateLimiter(10)
    first, second = await limiter.acquire(), await limiter.acquire()
    start = now()
    limiter.on_throttled(first, 2)
    limiter.on_throttled(second, 5)
    limiter.on_throttled(second, 1)
    await limiter.acquire()
    assert now() == pytest.approx(start + 5)


async def test_the_rate_never_falls_below_a_sixteenth():
    limiter = RateLimiter(16)
    full = limiter.per_second
    for _ in range(10):
        limiter.on_throttled(await limiter.acquire(), 0)
    assert limiter.per_second == full / 16


async def test_without_retry_after_the_pause_grows_until_a_success():
    limiter = RateLimiter(1000)
    pauses = []
    epoch = await limiter.acquire()
    for _ in range(7):
        before = now()
        limiter.on_throttled(epoch)
        limiter.on_throttled(epoch)  # the same epoch, heard again, adds nothing
        epoch = await limiter.acquire()
        pauses.append(round(now() - before, 1))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    limiter.on_success(epoch)
    before = now()
    limiter.on_throttled(epoch)
    await limiter.acquire()
    assert now() - before == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("slow_downs", "successes"), [(1, 55), (9, 188)])
async def test_the_full_rate_is_back_after_a_known_number_of_successes(slow_downs, successes):
    limiter = RateLimiter(10)
    full = limiter.per_second
    for _ in range(slow_downs):
        limiter.on_throttled(await limiter.acquire(), 0)
    for _ in range(successes - 1):
        limiter.on_success(await limiter.acquire())
    assert limiter.per_second < full
    for _ in range(2):
        limiter.on_success(await limiter.acquire())
        assert limiter.per_second == pytest.approx(full)


async def test_recovery_is_quick_up_to_the_proven_rate_then_slow():
    limiter = RateLimiter(10)
    full = limiter.per_second
    limiter.on_throttled(await limiter.acquire(), 0)
    rates = []
    for _ in range(7):
        limiter.on_success(await limiter.acquire())
        rates.append(limiter.per_second / full)
    assert rates == pytest.approx([0.55, 0.6, 0.65, 0.7, 0.75, 0.755, 0.76], abs=0.001)


async def test_a_success_from_before_a_429_does_not_raise_the_rate():
    limiter = RateLimiter(10)
    before, throttled = await limiter.acquire(), await limiter.acquire()
    limiter.on_throttled(throttled, 0)
    slowed = limiter.per_second
    limiter.on_success(before)
    assert limiter.per_second == slowed


class Counter:
    """Grants `per_second` requests in any second, and counts strictly."""

    def __init__(self, per_second):
        self.per_second = per_second
        self.granted = []
        self.throttled = 0

    async def take(self, limiter, retry_after):
        epoch = await limiter.acquire()
        if sum(1 for moment in self.granted[-self.per_second :] if moment > now() - 1) < self.per_second:
            self.granted.append(now())
            limiter.on_success(epoch)
        else:
            self.throttled += 1
            limiter.on_throttled(epoch, retry_after)


@pytest.mark.parametrize("per_second", [1, 10, 25, 75])
async def test_asking_for_the_granted_rate_is_never_throttled(per_second):
    late([0.002] * 20 * per_second)
    api, limiter = Counter(per_second), RateLimiter(per_second)
    while len(api.granted) < 15 * per_second:
        await api.take(limiter, 1.0)
    assert api.throttled == 0
    assert api.granted[-1] - api.granted[0] <= 15 * 1.03


@pytest.mark.parametrize("retry_after", [1.0, 0.0, None])
async def test_asking_for_four_times_what_is_granted_loses_no_request(retry_after):
    api, limiter = Counter(10), RateLimiter(40)
    while len(api.granted) < 300:
        await api.take(limiter, retry_after)
    assert api.throttled < 30, "one in ten at most"
    assert api.granted[-1] - api.granted[0] < 60, "half of what is granted at least"


async def test_a_caller_that_gives_up_does_not_hold_up_the_others():
    limiter = RateLimiter(50)
    await limiter.acquire()
    impatient = asyncio.create_task(limiter.acquire())
    patient = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    impatient.cancel()
    assert await asyncio.wait_for(patient, 5) == 0
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_released_turn_costs_no_time():
    limiter = RateLimiter(10)
    await limiter.acquire()
    await limiter.acquire()
    second = now()
    for _ in range(5):
        limiter.release()
        await limiter.acquire()
    assert now() == pytest.approx(second, abs=1e-6)


async def test_releasing_turns_shortens_no_pause_of_the_api():
    limiter = RateLimiter(10)
    epoch = await limiter.acquire()
    limiter.on_throttled(epoch, 30)
    for _ in range(9):
        limiter.release()
    await limiter.acquire()
    assert now() >= 30


async def test_a_deadline_is_met_at_the_lowest_rate():
    """After a ban the rate is a sixteenth: eight in line, each good for ten seconds, wait 13 for all of them."""
    limiter = RateLimiter(10)
    for _ in range(5):
        limiter.on_throttled(await limiter.acquire())
    left = list(range(40))

    async def worker():
        while left:
            came = now()
            epoch = await limiter.acquire()
            if now() - came > 10:
                limiter.release()
                await asyncio.sleep(0)
            elif left:
                left.pop()
                limiter.on_success(epoch)

    started = now()
    await asyncio.gather(*(worker() for _ in range(8)))
    assert now() - started < 120


async def all_at_once(limiter, count):
    """Reserve turns concurrently; returns when each began and when it left."""
    times = []

    async def one():
        await limiter.reserve()
        began = now()
        await limiter.acquire()
        limiter.end_reservation()
        times.append((began, now()))

    await asyncio.gather(*(one() for _ in range(count)))
    return times


async def test_a_reserved_turn_may_begin_a_second_before_it_comes():
    times = await all_at_once(RateLimiter(10), 40)
    waited = [went - began for began, went in times]
    assert max(waited) <= LEAD + 1e-6
    assert waited[15:] == pytest.approx([LEAD] * 25, abs=0.11)
    assert most_in_one_second([went for _, went in times]) <= 10
    assert times[-1][1] == pytest.approx(39 / 9.8, abs=0.02)


async def test_the_first_that_is_ready_goes_first():
    gone = []
    limiter = RateLimiter(10)
    for _ in range(5):
        await limiter.reserve()
    for number in (4, 2, 3, 1):
        await limiter.acquire()
        limiter.end_reservation()
        gone.append((number, now()))
    await asyncio.sleep(60)  # the fifth takes a minute
    await limiter.acquire()
    limiter.end_reservation()
    assert [number for number, _ in gone] == [4, 2, 3, 1]
    assert gone[-1][1] - gone[0][1] == pytest.approx(3 / 9.8, abs=0.011)


async def test_a_released_turn_goes_to_the_next_at_once():
    limiter = RateLimiter(10)
    for _ in range(100):
        await limiter.reserve()
        limiter.end_reservation()
    assert now() == 0


async def test_no_reservation_begins_long_before_a_pause_ends():
    limiter = RateLimiter(10)
    limiter.on_throttled(await limiter.acquire(), 30)
    await limiter.reserve()
    assert now() == pytest.approx(30 - LEAD)
    await limiter.acquire()
    assert now() == pytest.approx(30)


async def test_a_pause_that_begins_meanwhile_holds_reservations():
    limiter = RateLimiter(0.1)
    epoch = await limiter.acquire()
    asyncio.get_running_loop().call_later(0.001, lambda: limiter.on_throttled(epoch, 60))
    await limiter.reserve()
    assert now() >= 60 - LEAD


async def test_a_reservation_that_cannot_wait_for_a_pause_ends():
    limiter = RateLimiter(10)
    epoch = await limiter.acquire()
    limiter.on_throttled(epoch, 30)
    for wait in (limiter.reserve, limiter.acquire):
        with pytest.raises(TooLate):
            await wait(10)
    assert now() == 0
    await limiter.acquire(40)
    assert now() == 30


async def test_a_turn_that_comes_too_late_is_left_to_others():
    limiter = RateLimiter(1)
    await limiter.acquire()
    asyncio.get_running_loop().lateness.append(5)
    with pytest.raises(TooLate):
        await limiter.acquire(2)
    await limiter.acquire()
    assert now() == pytest.approx(6, abs=0.1)


async def test_at_the_lowest_rate_none_begins_long_before_its_turn():
    """After a ban the rate is a sixteenth: 1.6 s from turn to turn, and what was read for one must not grow old."""
    limiter = RateLimiter(10)
    for _ in range(5):
        limiter.on_throttled(await limiter.acquire())
    times = await all_at_once(limiter, 20)
    assert max(went - began for began, went in times) <= LEAD + 1e-6
