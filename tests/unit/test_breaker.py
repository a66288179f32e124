"""When a breaker opens, who finds out whether the store is back, and whose word counts."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coherence_grpc.breaker import Breaker
from coherence_grpc.errors import Conflict, OutcomeUnknown, OutOfTime, StorageFull, StoreBusy, StoreDown, StoreTimeout
from tests.faults import until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.anyio

OPEN_S: Final = 1.0


class Time:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Call:
    """A call under way, to be ended at will."""

    def __init__(self, breaker: Breaker) -> None:
        self._guard: AbstractContextManager[None] = breaker.call()
        self._guard.__enter__()

    def end(self, error: BaseException | None = None) -> None:
        if error is None:
            self._guard.__exit__(None, None, None)
        else:
            assert not self._guard.__exit__(type(error), error, None), "the breaker swallowed an error"


def a_breaker(time: Time, *, minimum: int = 2, ratio: float = 0.5) -> Breaker:
    return Breaker("store", window_s=10, minimum=minimum, ratio=ratio, open_s=OPEN_S, monotonic=time)


def fail(breaker: Breaker, times: int = 1, error: type[StoreDown | StoreTimeout] = StoreDown) -> None:
    for _ in range(times):
        Call(breaker).end(error("lost"))


def state_of(breaker: Breaker) -> str:
    return breaker.state


def an_open_breaker(time: Time) -> Breaker:
    breaker = a_breaker(time)
    fail(breaker, times=2)
    return breaker


@pytest.mark.parametrize("error", [StoreDown, StoreTimeout, OutcomeUnknown])
def test_a_store_that_fails_is_not_asked_until_the_time_is_up(error: type[StoreDown | StoreTimeout]) -> None:
    time = Time()
    breaker = a_breaker(time)

    fail(breaker, times=2, error=error)

    with pytest.raises(StoreDown, match="store failed too often") as refused:
        Call(breaker)
    assert refused.value.retry_after_s == OPEN_S
    assert state_of(breaker) == "open"


def test_a_store_found_away_is_not_asked_until_the_time_is_up() -> None:
    time = Time()
    breaker = a_breaker(time)

    breaker.trip()
    breaker.trip()

    with pytest.raises(StoreDown) as refused:
        Call(breaker)
    assert refused.value.retry_after_s == OPEN_S
    time.now += OPEN_S
    Call(breaker).end()
    assert state_of(breaker) == "closed"


def test_a_probe_that_hears_nothing_opens_it_anew() -> None:
    time = Time()
    breaker = an_open_breaker(time)
    time.now += OPEN_S
    probe = Call(breaker)

    breaker.trip()
    probe.end(StoreDown("lost"))

    assert state_of(breaker) == "open"
    time.now += OPEN_S
    assert state_of(breaker) == "half-open"


def test_callers_out_of_time_say_nothing_of_the_store() -> None:
    time = Time()
    breaker = a_breaker(time)
    for _ in range(9):
        Call(breaker).end(OutOfTime("late"))
    closed = state_of(breaker)
    fail(breaker, times=2)
    time.now += OPEN_S

    Call(breaker).end(OutOfTime("late"))

    assert closed == "closed"
    assert state_of(breaker) == "half-open"


def test_few_failures_open_nothing() -> None:
    breaker = a_breaker(Time(), minimum=3)

    fail(breaker, times=2)

    assert state_of(breaker) == "closed"


def test_failures_below_the_ratio_open_nothing() -> None:
    breaker = a_breaker(Time(), minimum=4)
    for _ in range(5):
        Call(breaker).end()

    fail(breaker, times=4)

    assert state_of(breaker) == "closed"
    fail(breaker)
    assert state_of(breaker) == "open"


def test_failures_are_forgotten_after_the_window() -> None:
    time = Time()
    breaker = a_breaker(time)
    fail(breaker)
    time.now += 10

    fail(breaker)

    assert state_of(breaker) == "closed"


@pytest.mark.parametrize(
    "error", [Conflict("no"), StorageFull("no"), StoreBusy("no"), asyncio.CancelledError(), KeyError("ours")]
)
def test_what_is_not_the_stores_failure_opens_nothing(error: BaseException) -> None:
    breaker = a_breaker(Time())

    for _ in range(10):
        Call(breaker).end(error)

    assert state_of(breaker) == "closed"


def test_a_refusal_shows_that_the_store_is_back() -> None:
    time = Time()
    breaker = an_open_breaker(time)
    time.now += OPEN_S

    Call(breaker).end(Conflict("no"))

    assert state_of(breaker) == "closed"


def test_a_probe_that_fails_opens_it_anew() -> None:
    time = Time()
    breaker = an_open_breaker(time)
    time.now += OPEN_S

    fail(breaker)

    assert state_of(breaker) == "open"
    time.now += OPEN_S
    Call(breaker).end()
    assert state_of(breaker) == "closed"


def test_after_closing_old_failures_are_forgotten() -> None:
    time = Time()
    breaker = an_open_breaker(time)
    time.now += OPEN_S
    Call(breaker).end()

    fail(breaker)

    assert state_of(breaker) == "closed"


def test_a_cancelled_probe_leaves_the_next_one_its_chance() -> None:
    time = Time()
    breaker = an_open_breaker(time)
    time.now += OPEN_S

    Call(breaker).end(asyncio.CancelledError())

    assert state_of(breaker) == "half-open"
    Call(breaker).end()
    assert state_of(breaker) == "closed"


def test_a_late_success_from_before_does_not_close_it() -> None:
    breaker = a_breaker(Time())
    late = Call(breaker)
    fail(breaker, times=2)

    late.end()

    assert state_of(breaker) == "open"


def test_a_late_failure_from_before_does_not_open_it() -> None:
    time = Time()
    breaker = a_breaker(time)
    late = [Call(breaker) for _ in range(5)]
    fail(breaker, times=2)
    time.now += OPEN_S
    Call(breaker).end()

    for call in late:
        call.end(StoreDown("lost"))

    assert state_of(breaker) == "closed"


def test_late_failures_do_not_prolong_the_pause() -> None:
    time = Time()
    breaker = a_breaker(time)
    late = [Call(breaker) for _ in range(5)]
    fail(breaker, times=2)
    time.now += OPEN_S / 2

    for call in late:
        call.end(StoreDown("lost"))

    time.now += OPEN_S / 2
    assert state_of(breaker) == "half-open"


async def test_one_of_many_at_once_is_let_through_half_open() -> None:
    time = Time()
    breaker = an_open_breaker(time)
    time.now += OPEN_S
    asked = 0
    answered = asyncio.Event()

    async def ask() -> bool:
        nonlocal asked
        try:
            with breaker.call():
                asked += 1
                await answered.wait()
        except StoreDown:
            return False
        return True

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(20)]
        await until(lambda: sum(task.done() for task in tasks) == 19)
        assert asked == 1
        answered.set()

    assert sum(task.result() for task in tasks) == 1
    assert state_of(breaker) == "closed"


def test_each_change_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coherence_grpc.breaker")
    time = Time()
    breaker = an_open_breaker(time)
    for _ in range(3):
        time.now += OPEN_S
        fail(breaker)
    time.now += OPEN_S

    Call(breaker).end()

    assert [record.getMessage() for record in caplog.records] == [
        "a store fails and is asked only now and then",
        "a store answers again",
    ]


class BreakerMachine(RuleBasedStateMachine):
    """Calls that begin and end in any order, beside a model that remembers every outcome."""

    @initialize(minimum=st.integers(1, 4), ratio=st.sampled_from([0.25, 0.5, 1.0]))
    def begin_time(self, minimum: int, ratio: float) -> None:
        self.time = Time()
        self.minimum = minimum
        self.ratio = ratio
        self.breaker = a_breaker(self.time, minimum=minimum, ratio=ratio)
        self.period = 0
        self.outcomes: list[tuple[float, bool]] = []
        self.open_until: float | None = None
        self.probe: Call | None = None
        self.under_way: list[tuple[Call, int]] = []

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.time.now += seconds

    @rule()
    def call(self) -> None:
        closed = self.open_until is None
        admitted = closed or (self.time.now >= (self.open_until or 0) and self.probe is None)

        if not admitted:
            with pytest.raises(StoreDown) as refused:
                Call(self.breaker)
            assert 0 < (refused.value.retry_after_s or 0) <= OPEN_S
            return

        call = Call(self.breaker)
        if not closed:
            self.period += 1
            self.probe = call
        self.under_way.append((call, self.period))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), end=st.sampled_from(["success", "refusal", "failure", "cancelled"]))
    def a_call_ends(self, data: st.DataObject, end: str) -> None:
        call, period = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        error = {"refusal": Conflict("no"), "failure": StoreTimeout("late"), "cancelled": asyncio.CancelledError()}

        call.end(error.get(end))

        if period == self.period:
            self._counts(call, end)

    def _counts(self, call: Call, end: str) -> None:
        if call is self.probe:
            self.probe = None
            if end != "cancelled":
                self._changes(opened=end == "failure")
        elif end != "cancelled":
            self.outcomes.append((self.time.now, end == "failure"))
            recent = [failed for at, failed in self.outcomes if int(at) > int(self.time.now) - 10]
            if end == "failure" and len(recent) >= self.minimum and sum(recent) >= self.ratio * len(recent):
                self._changes(opened=True)

    def _changes(self, *, opened: bool) -> None:
        self.period += 1
        self.outcomes.clear()
        self.open_until = self.time.now + OPEN_S if opened else None

    @invariant()
    def the_state_is_that_of_the_model(self) -> None:
        if self.open_until is None:
            assert self.breaker.state == "closed"
        else:
            assert self.breaker.state == ("open" if self.time.now < self.open_until else "half-open")


TestBreakerMachine = BreakerMachine.TestCase
