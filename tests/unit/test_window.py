from __future__ import annotations

from array import array
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coherence_grpc.materialize.columns import CHUNK
from coherence_grpc.materialize.window import Window
from coherence_grpc.model import GENESIS, QUANTUM, SECOND, WINDOW, Head, Item
from coherence_grpc.ports import WindowColumns
from coherence_grpc.score import WindowSum
from tests.builders import NOON, an_item

AHEAD = 300 * SECOND
values = st.sampled_from([0, 1, QUANTUM // 2, QUANTUM - 1, QUANTUM]) | st.integers(0, QUANTUM)
weights = st.sampled_from([0, 1, QUANTUM, 999_999_999_999, 1000 * QUANTUM]) | st.integers(0, 1000 * QUANTUM)
# Late, on both bounds of the window and one beside them, inside, and dated ahead.
offsets = (
    st.sampled_from([-WINDOW - 1, -WINDOW, -WINDOW + 1, -1, 0, 1, AHEAD])
    | st.integers(-WINDOW - AHEAD, AHEAD)
    | st.integers(-20, 20)
)


class Recomputed(NamedTuple):
    sums: WindowSum
    data_time: int | None
    valid_until: int | None


def recompute(items: list[Item], now: int) -> Recomputed:
    """The definition: everything from scratch."""
    weighted = [item for item in items if item.weight_q]
    inside = [item for item in weighted if now - WINDOW <= item.ts <= now]
    sums = WindowSum()
    for item in inside:
        sums = sums.plus(item.value_q, item.weight_q)
    changes = [item.ts + WINDOW + 1 for item in inside] + [item.ts for item in weighted if item.ts > now]
    return Recomputed(sums, max((item.ts for item in inside), default=None), min(changes, default=None))


def seen(window: Window) -> Recomputed:
    return Recomputed(window.sums(), window.data_time, window.valid_until)


def columns_of(items: list[Item]) -> WindowColumns:
    weighted = sorted((item.ts, item.value_q, item.weight_q) for item in items if item.weight_q)
    return WindowColumns(
        array("q", [ts for ts, _, _ in weighted]),
        array("L", [value_q for _, value_q, _ in weighted]),
        array("L", [weight_q for _, _, weight_q in weighted]),
        Head(1, len(items), GENESIS),
    )


class WindowMachine(RuleBasedStateMachine):
    """Any order of arrivals and any advance of the clock; duplicates come as the store leaves them: not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.items: list[Item] = []
        self.keys: set[tuple[str, int]] = set()
        self.window = Window(self.now)

    @rule(signals=st.lists(st.tuples(offsets, values, weights, st.sampled_from("abc")), min_size=1, max_size=8))
    def arrive(self, signals: list[tuple[int, int, int, str]]) -> None:
        fresh: list[Item] = []
        for offset, value_q, weight_q, signal_id in signals:
            key = (signal_id, self.now + offset)
            if key not in self.keys:
                self.keys.add(key)
                fresh.append(Item("ci", signal_id, "build", value_q, weight_q, self.now + offset))
        self.items += fresh
        self.window.add(fresh)

    @rule(by=st.sampled_from([1, SECOND, AHEAD, WINDOW, WINDOW + 1, 3 * WINDOW]) | st.integers(1, WINDOW))
    def advance(self, by: int) -> None:
        before = recompute(self.items, self.now)
        self.now += by

        moved = self.window.advance(self.now)

        if before.sums != recompute(self.items, self.now).sums:
            assert moved

    @rule()
    def advance_to_the_next_change(self) -> None:
        change = self.window.valid_until
        if change is not None:
            before = self.window.sums()
            assert not self.window.advance(change - 1)
            assert self.window.sums() == before
            assert self.window.advance(change)
            self.now = change

    @rule(back=st.integers(0, 2 * WINDOW))
    def a_clock_that_stands_or_goes_back_changes_nothing(self, back: int) -> None:
        assert not self.window.advance(self.now - back)

    @rule()
    def load_anew(self) -> None:
        start = self.now - WINDOW
        self.window = Window.of(columns_of([item for item in self.items if item.ts >= start]), self.now)

    @invariant()
    def it_equals_a_full_recompute(self) -> None:
        assert seen(self.window) == recompute(self.items, self.now)


TestWindowMachine = pytest.mark.timeout(120)(WindowMachine.TestCase)
TestWindowMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 5))
def test_ac_data_03_thousands_of_signals_in_any_order_equal_a_full_recompute(seed: int, steps: int) -> None:
    random = Random(seed)  # noqa: S311 - test data
    now = NOON
    window, items = Window(now), []
    for _ in range(steps):
        batch = [
            an_item(
                signal_id="s",
                value=random.choice((0.0, 1.0, random.random())),
                weight=random.choice((0.0, 1000.0, 1000 * random.random())),
                ts=now + random.randrange(-WINDOW, AHEAD),
            )
            for _ in range(random.randrange(3 * CHUNK))
        ]
        items += batch
        window.add(batch)
        assert seen(window) == recompute(items, now)
        now += random.randrange(1, WINDOW // 2)
        window.advance(now)
        assert seen(window) == recompute(items, now)


@pytest.mark.parametrize("weight_q", [1000 * QUANTUM, 999_999_999_999])
def test_ac_test_01_ten_thousand_signals_at_the_limits_sum_exactly(weight_q: int) -> None:
    items = [Item("ci", str(n), "build", QUANTUM, weight_q, NOON - n) for n in range(10_000)]
    window = Window(NOON)

    window.add(items)

    assert window.sums() == WindowSum(10_000 * QUANTUM * weight_q, 10_000 * weight_q, 10_000)
    assert window.sums().score_ppm() == 1_000_000
    assert seen(Window.of(columns_of(items), NOON)) == seen(window)


def test_a_signal_leaves_one_microsecond_after_the_window_and_an_empty_window_is_unknown() -> None:
    window = Window(NOON)
    window.add([an_item(ts=NOON)])

    assert not window.advance(NOON + WINDOW)
    assert window.sums().count == 1
    assert window.advance(NOON + WINDOW + 1)
    assert window.sums() == WindowSum()
    assert window.sums().score_ppm() is None
    assert window.valid_until is None


def test_a_signal_dated_ahead_counts_from_its_instant_on() -> None:
    window = Window(NOON)
    window.add([an_item(value=0.2, ts=NOON + 60 * SECOND)])

    assert window.sums().count == 0
    assert window.valid_until == NOON + 60 * SECOND
    window.advance(NOON + 60 * SECOND)
    assert window.sums().score_ppm() == 200_000


def test_a_signal_that_came_due_and_aged_out_in_one_advance_is_gone() -> None:
    window = Window(NOON)
    window.add([an_item(ts=NOON + SECOND)])

    assert window.advance(NOON + 3 * WINDOW)
    assert window.sums() == WindowSum()


def test_a_signal_takes_at_most_64_bytes_in_order_and_in_disorder() -> None:
    ordered, shuffled = Window(NOON), Window(NOON)
    items = [an_item(signal_id="s", ts=NOON - n) for n in range(20 * CHUNK)]

    ordered.add(items[::-1])
    Random(1).shuffle(items)  # noqa: S311 - test data
    shuffled.add(items)

    assert ordered.size == shuffled.size == 20 * CHUNK
    assert ordered.allocated_bytes / ordered.size <= 32
    assert shuffled.allocated_bytes / shuffled.size <= 64


@pytest.mark.parametrize("gone", [1, CHUNK // 2 - 1, CHUNK // 2, CHUNK // 2 + 1, CHUNK - 1])
def test_a_full_chunk_that_has_begun_to_leave_takes_late_signals(gone: int) -> None:
    items = [an_item(signal_id="s", ts=NOON - WINDOW + n, value=n / CHUNK) for n in range(CHUNK)]
    window = Window(NOON)
    window.add(items)
    window.advance(NOON + gone)
    late = [an_item(signal_id="late", ts=items[-1].ts - 1, value=0.5) for _ in range(CHUNK)]

    window.add(late[:1])
    assert seen(window) == recompute([*items, late[0]], NOON + gone)
    window.add(late[1:])
    assert seen(window) == recompute([*items, *late], NOON + gone)
    window.advance(NOON + CHUNK - 1)
    assert seen(window) == recompute([*items, *late], NOON + CHUNK - 1)


def test_signals_that_left_give_their_memory_back() -> None:
    window = Window(NOON)
    window.add([an_item(signal_id="s", ts=NOON - WINDOW + n) for n in range(CHUNK)])

    window.advance(NOON + CHUNK - 8)

    assert window.size == 8
    assert window.allocated_bytes < CHUNK * 24 / 2
