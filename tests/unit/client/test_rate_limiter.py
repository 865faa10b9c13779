"""A rate limiter keeps the rate, keeps the order, and listens to the API."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_extend_ai.client.rate_limiter import LEAD, RateLimiter, TooLate


class Time:
    """A clock that only sleeping moves; every sleep may end late."""

    def __init__(self, lateness=()):
        self.now = 1000.0
        self.lateness = deque(lateness)
        self.while_asleep = None

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        if self.while_asleep is not None:
            heard, self.while_asleep = self.while_asleep, None
            heard()
        self.now += seconds + (self.lateness.popleft() if self.lateness else 0.0)
        await asyncio.sleep(0)


def a_limiter(per_second, time):
    return RateLimiter(per_second, clock=time.clock, sleep=time.sleep)


async def times_of(limiter, time, count):
    taken = []
    for _ in range(count):
        await limiter.acquire()
        taken.append(time.now)
    return taken


def most_in_one_second(times):
    return max(sum(1 for other in times if start <= other < start + 1) for start in times)


async def test_requests_are_spaced_evenly_and_the_first_does_not_wait():
    time = Time()
    times = await times_of(a_limiter(10, time), time, 12)
    assert times[0] == 1000.0
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert gaps == pytest.approx([0.1 / 0.98] * 10)


async def test_first_come_first_served():
    time, order = Time(), []
    limiter = a_limiter(10, time)

    async def go(number):
        await limiter.acquire()
        order.append(number)

    await asyncio.gather(*(go(number) for number in range(30)))
    assert order == list(range(30))


@given(st.lists(st.floats(0, 1.5), max_size=120), st.sampled_from([1, 10, 25, 75]))
def test_no_second_has_more_than_the_rate_even_after_late_sleeps(lateness, per_second):
    time = Time(lateness)
    times = asyncio.run(times_of(a_limiter(per_second, time), time, 150))
    assert most_in_one_second(times) <= per_second


async def test_sleeps_that_end_a_little_late_cost_no_throughput():
    time = Time([0.006] * 750)  # nearly half of the 13 ms between two requests, each time
    times = await times_of(a_limiter(75, time), time, 750)
    assert 750 / (times[-1] - times[0]) >= 0.95 * 75


async def test_no_request_goes_before_the_end_of_a_requested_pause():
    time = Time()
    limiter = a_limiter(10, time)
    epoch = await limiter.acquire()
    limiter.on_throttled(epoch, 3.5)
    await limiter.acquire()
    assert time.now == pytest.approx(1003.5)


async def test_a_pause_holds_waiting_requests_too():
    time = Time()
    limiter = a_limiter(10, time)
    epoch = await limiter.acquire()
    time.while_asleep = lambda: limiter.on_throttled(epoch, 7)
    await limiter.acquire()
    assert time.now >= 1007


async def test_a_pause_of_zero_halves_the_rate_without_a_pause():
    time = Time()
    limiter = a_limiter(10, time)
    full = limiter.per_second
    limiter.on_throttled(await limiter.acquire(), 0)
    await limiter.acquire()
    assert time.now < 1000.2
    assert limiter.per_second == full / 2


async def test_a_wave_of_429s_halves_the_rate_once():
    time = Time()
    limiter = a_limiter(40, time)
    full = limiter.per_second
    epochs = [await limiter.acquire() for _ in range(8)]
    for epoch in epochs:
        limiter.on_throttled(epoch, 1)
    assert limiter.per_second == full / 2
    limiter.on_throttled(await limiter.acquire(), 1)
    assert limiter.per_second == full / 4


async def test_an_old_epoch_lengthens_the_pause_and_never_shortens_it():
    time = Time()
    limiter = a_limiter(10, time)
    first, second = await limiter.acquire(), await limiter.acquire()
    start = time.now
    limiter.on_throttled(first, 2)
    limiter.on_throttled(second, 5)
    limiter.on_throttled(second, 1)
    await limiter.acquire()
    assert time.now == pytest.approx(start + 5)


async def test_the_rate_never_falls_below_a_sixteenth():
    time = Time()
    limiter = a_limiter(16, time)
    full = limiter.per_second
    for _ in range(10):
        limiter.on_throttled(await limiter.acquire(), 0)
    assert limiter.per_second == full / 16


async def test_without_retry_after_the_pause_grows_until_a_success():
    time = Time()
    limiter = a_limiter(1000, time)
    pauses = []
    epoch = await limiter.acquire()
    for _ in range(7):
        before = time.now
        limiter.on_throttled(epoch)
        limiter.on_throttled(epoch)  # the same epoch, heard again, adds nothing
        epoch = await limiter.acquire()
        pauses.append(round(time.now - before, 1))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    limiter.on_success(epoch)
    before = time.now
    limiter.on_throttled(epoch)
    await limiter.acquire()
    assert time.now - before == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("slow_downs", "successes"), [(1, 55), (9, 188)])
async def test_the_full_rate_is_back_after_a_known_number_of_successes(slow_downs, successes):
    time = Time()
    limiter = a_limiter(10, time)
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
    time = Time()
    limiter = a_limiter(10, time)
    full = limiter.per_second
    limiter.on_throttled(await limiter.acquire(), 0)
    rates = []
    for _ in range(7):
        limiter.on_success(await limiter.acquire())
        rates.append(limiter.per_second / full)
    assert rates == pytest.approx([0.55, 0.6, 0.65, 0.7, 0.75, 0.755, 0.76], abs=0.001)


async def test_a_success_from_before_a_429_does_not_raise_the_rate():
    time = Time()
    limiter = a_limiter(10, time)
    before, throttled = await limiter.acquire(), await limiter.acquire()
    limiter.on_throttled(throttled, 0)
    slowed = limiter.per_second
    limiter.on_success(before)
    assert limiter.per_second == slowed


class Counter:
    """Grants `per_second` requests in any second, and counts strictly."""

    def __init__(self, per_second, time):
        self.per_second = per_second
        self.time = time
        self.granted = []
        self.throttled = 0

    async def take(self, limiter, retry_after):
        epoch = await limiter.acquire()
        if sum(1 for moment in self.granted[-self.per_second :] if moment > self.time.now - 1) < self.per_second:
            self.granted.append(self.time.now)
            limiter.on_success(epoch)
        else:
            self.throttled += 1
            limiter.on_throttled(epoch, retry_after)


@pytest.mark.parametrize("per_second", [1, 10, 25, 75])
async def test_asking_for_the_granted_rate_is_never_throttled(per_second):
    time = Time([0.002] * 20 * per_second)
    api, limiter = Counter(per_second, time), a_limiter(per_second, time)
    while len(api.granted) < 15 * per_second:
        await api.take(limiter, 1.0)
    assert api.throttled == 0
    assert api.granted[-1] - api.granted[0] <= 15 * 1.03


@pytest.mark.parametrize("retry_after", [1.0, 0.0, None])
async def test_asking_for_four_times_what_is_granted_loses_no_request(retry_after):
    time = Time()
    api, limiter = Counter(10, time), a_limiter(40, time)
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
    time = Time()
    limiter = a_limiter(10, time)
    await limiter.acquire()
    await limiter.acquire()
    second = time.now
    for _ in range(5):
        limiter.release()
        await limiter.acquire()
    assert time.now == pytest.approx(second, abs=1e-6)


async def test_releasing_turns_shortens_no_pause_of_the_api():
    time = Time()
    limiter = a_limiter(10, time)
    epoch = await limiter.acquire()
    limiter.on_throttled(epoch, 30)
    for _ in range(9):
        limiter.release()
    await limiter.acquire()
    assert time.now >= 1030


async def test_a_deadline_is_met_at_the_lowest_rate():
    """After a ban the rate is a sixteenth: eight in line, each good for ten seconds, wait 13 for all of them."""
    time = Time()
    limiter = a_limiter(10, time)
    for _ in range(5):
        limiter.on_throttled(await limiter.acquire())
    left = list(range(40))

    async def worker():
        while left:
            came = time.now
            epoch = await limiter.acquire()
            if time.now - came > 10:
                limiter.release()
                await asyncio.sleep(0)
            elif left:
                left.pop()
                limiter.on_success(epoch)

    started = time.now
    await asyncio.wait_for(asyncio.gather(*(worker() for _ in range(8))), 20)
    assert time.now - started < 120


def in_virtual_time(runner, per_second, story):
    """Live through a story of a limiter, whose waiters wait side by side."""
    loop = runner.get_loop()
    return runner.run(story(RateLimiter(per_second, clock=loop.time), loop.time))


async def all_at_once(limiter, clock, count):
    """Reserve turns concurrently; returns when each began and when it left."""
    times = []

    async def one():
        await limiter.reserve()
        began = clock()
        await limiter.acquire()
        limiter.end_reservation()
        times.append((began, clock()))

    await asyncio.gather(*(one() for _ in range(count)))
    return times


def test_a_reserved_turn_may_begin_a_second_before_it_comes(runner):
    times = in_virtual_time(runner, 10, lambda limiter, clock: all_at_once(limiter, clock, 40))
    waited = [went - began for began, went in times]
    assert max(waited) <= LEAD + 1e-6
    assert waited[15:] == pytest.approx([LEAD] * 25, abs=0.11)
    assert most_in_one_second([went for _, went in times]) <= 10
    assert times[-1][1] == pytest.approx(39 / 9.8, abs=0.02)


async def test_the_first_that_is_ready_goes_first():
    time, gone = Time(), []
    limiter = a_limiter(10, time)
    for _ in range(5):
        await limiter.reserve()
    for number in (4, 2, 3, 1):
        await limiter.acquire()
        limiter.end_reservation()
        gone.append((number, time.now))
    time.now += 60  # the fifth takes a minute
    await limiter.acquire()
    limiter.end_reservation()
    assert [number for number, _ in gone] == [4, 2, 3, 1]
    assert gone[-1][1] - gone[0][1] == pytest.approx(3 / 9.8, abs=0.011)


async def test_a_released_turn_goes_to_the_next_at_once():
    time = Time()
    limiter = a_limiter(10, time)
    for _ in range(100):
        await limiter.reserve()
        limiter.end_reservation()
    assert time.now == 1000


async def test_no_reservation_begins_long_before_a_pause_ends():
    time = Time()
    limiter = a_limiter(10, time)
    limiter.on_throttled(await limiter.acquire(), 30)
    await limiter.reserve()
    assert time.now == pytest.approx(1030 - LEAD)
    await limiter.acquire()
    assert time.now == pytest.approx(1030)


async def test_a_pause_that_begins_meanwhile_holds_reservations():
    time = Time()
    limiter = a_limiter(0.1, time)
    epoch = await limiter.acquire()
    time.while_asleep = lambda: limiter.on_throttled(epoch, 60)
    await limiter.reserve()
    assert time.now >= 1060 - LEAD


async def test_a_reservation_that_cannot_wait_for_a_pause_ends():
    time = Time()
    limiter = a_limiter(10, time)
    epoch = await limiter.acquire()
    limiter.on_throttled(epoch, 30)
    for wait in (limiter.reserve, limiter.acquire):
        with pytest.raises(TooLate):
            await wait(1010)
    assert time.now == 1000
    await limiter.acquire(1040)
    assert time.now == 1030


async def test_a_turn_that_comes_too_late_is_left_to_others():
    time = Time()
    limiter = a_limiter(1, time)
    await limiter.acquire()
    time.while_asleep = lambda: setattr(time, "now", time.now + 5)
    with pytest.raises(TooLate):
        await limiter.acquire(1002)
    await limiter.acquire()
    assert time.now == pytest.approx(1006, abs=0.1)


def test_at_the_lowest_rate_none_begins_long_before_its_turn(runner):
    """After a ban the rate is a sixteenth: 1.6 s from turn to turn, and what was read for one must not grow old."""

    async def story(limiter, clock):
        for _ in range(5):
            limiter.on_throttled(await limiter.acquire())
        return await all_at_once(limiter, clock, 20)

    times = in_virtual_time(runner, 10, story)
    assert max(went - began for began, went in times) <= LEAD + 1e-6
