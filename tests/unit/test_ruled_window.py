"""A window under a policy: whatever comes, goes and ages, it equals a recompute from fractions."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.materialize.ruled import RuledWindow
from coherence_grpc.model import QUANTUM, SECOND, WINDOW, Item, Status
from coherence_grpc.policy import ScorePolicy, Veto
from tests import generated
from tests.builders import NOON, an_item
from tests.oracle import truth

HALVING = ScorePolicy(half_life_us=WINDOW // 8)
CAPPED = ScorePolicy(source_cap_ppm=400_000)
MUTING = ScorePolicy(type_weights=(("build", 0), ("deploy", 2_000_000)))


def check_window(window: RuledWindow, items: list[Item]) -> None:
    expected = truth(items, window.policy, window.now)
    assert tuple(window.verdict()) == expected[:5]
    assert window.data_time == expected.data_time
    assert window.valid_until == next_change(items, window.policy, window.now)


def next_change(items: list[Item], policy: ScorePolicy, now: int) -> int | None:
    factors = dict(policy.type_weights)
    counting = [item for item in items if item.weight_q and factors.get(item.type, 1)]
    ahead = [item.ts for item in counting if item.ts > now]
    leaving = [item.ts + policy.window_us + 1 for item in counting if now - policy.window_us <= item.ts <= now]
    return min(ahead + leaving, default=None)


class Course:
    """A window, and beside it every signal that it was given."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.policy = generated.a_policy(random)
        self.window = RuledWindow(self.policy, NOON)
        self.items: list[Item] = []
        self.number = 0

    def step(self) -> None:
        self.random.choice((self.add, self.add, self.replace, self.advance, self.load))()
        check_window(self.window, self.items)

    def add(self) -> None:
        begin = self.window.now - self.policy.window_us
        fresh = generated.items_from(self.random, begin, self.policy.window_us, most=4)
        self.items += fresh
        self.window.add(fresh)

    def replace(self) -> None:
        if not self.items:
            return
        place = self.random.randrange(len(self.items))
        old = self.items[place]
        new = generated.an_item(self.random, old.ts, old.signal_id)._replace(source=old.source)
        self.items[place] = new
        assert self.window.remove(old)
        self.window.add([new])

    def advance(self) -> None:
        due = self.window.valid_until
        by = self.random.choice((0, 1, self.policy.window_us // 16, self.policy.window_us // 3))
        self.window.advance(self.window.now + by if due is None or self.random.randrange(2) else due)

    def load(self) -> None:
        columns = generated.columns_of(self.items, grouped=True)
        self.window = RuledWindow.of(columns, self.policy, self.window.now)


@settings(max_examples=150, deadline=None)
@given(random=st.randoms(use_true_random=False), steps=st.integers(1, 25))
def test_whatever_comes_and_goes_it_equals_a_recompute(random: Random, steps: int) -> None:
    course = Course(random)

    for _ in range(steps):
        course.step()


@pytest.mark.parametrize("policy", [HALVING, CAPPED, MUTING], ids=["half-life", "cap", "muted types"])
def test_thousands_of_signals_equal_a_recompute_at_every_step(policy: ScorePolicy) -> None:
    random = Random(5)  # noqa: S311 - test data
    items = [
        generated.an_item(random, NOON + n * SECOND, f"s{n}")._replace(weight_q=random.randrange(1000 * QUANTUM))
        for n in range(-3000, 300)
    ]
    window = RuledWindow(policy, NOON)

    window.add(items[::2])
    window.add(items[1::2])
    check_window(window, items)
    for by in (1, 200 * SECOND, WINDOW - 2000 * SECOND, WINDOW // 2):
        window.advance(window.now + by)
        check_window(window, items)
    assert window.size < len(items)


def test_a_signal_that_is_not_there_is_not_taken_away() -> None:
    window = RuledWindow(HALVING, NOON)
    window.add([an_item(ts=NOON), an_item(ts=NOON + SECOND)])

    assert not window.remove(an_item(ts=NOON, value=0.3))
    assert not window.remove(an_item(ts=NOON + SECOND, value=0.3))
    assert not window.remove(an_item(ts=NOON - SECOND))
    assert window.size == 2


def test_what_never_counted_is_taken_away_without_a_trace() -> None:
    window = RuledWindow(MUTING, NOON)

    assert window.remove(an_item(type="build"))
    assert window.remove(an_item(type="deploy", weight=0))
    assert window.remove(an_item(type="deploy", ts=NOON - WINDOW - 1))


def test_a_clock_that_goes_back_changes_nothing() -> None:
    window = RuledWindow(HALVING, NOON)
    window.add([an_item(ts=NOON)])

    assert not window.advance(NOON - WINDOW)
    assert window.now == NOON


def test_a_signal_counts_half_of_one_that_is_a_half_life_newer() -> None:
    window = RuledWindow(HALVING, NOON)

    window.add([an_item(value=0.0, ts=NOON - WINDOW // 8), an_item(value=0.9, ts=NOON)])

    assert window.verdict().score_ppm == 600_000
    assert window.verdict().weight_q == 1_500_000_000


def test_numbers_stay_short_however_long_a_half_life_window_lives() -> None:
    window = RuledWindow(ScorePolicy(half_life_us=WINDOW // 64), NOON)

    for hour in range(24 * 60):
        window.add([an_item(ts=NOON + hour * 3600 * SECOND, weight=1000)])
        window.advance(NOON + hour * 3600 * SECOND)

    assert window.tally.weight.bit_length() < 200
    assert window.verdict().score_ppm == 800_000


def test_a_veto_acts_from_the_signal_to_its_expiry() -> None:
    policy = ScorePolicy(vetoes=(Veto("incident", QUANTUM // 2, Status.CRITICAL), Veto("incident", 1, Status.WARN)))
    window = RuledWindow(policy, NOON)
    window.add([an_item(value=1.0, weight=1000, ts=NOON + 1)])

    window.add([an_item(type="incident", value=0.4, ts=NOON)])

    assert (window.verdict().status, window.verdict().cap) == (Status.CRITICAL, Status.CRITICAL)
    assert list(window.tally.vetoing) == [1, 0]
    window.advance(NOON + WINDOW)
    assert window.verdict().status is Status.CRITICAL
    window.advance(NOON + WINDOW + 1)
    assert (window.verdict().status, window.verdict().cap) == (Status.HEALTHY, None)


def test_a_ruled_signal_takes_at_most_64_bytes() -> None:
    window = RuledWindow(HALVING, NOON)
    items = [an_item(signal_id="s", ts=NOON - n) for n in range(20_000)]

    Random(1).shuffle(items)  # noqa: S311 - test data
    window.add(items)

    assert window.allocated_bytes / window.size <= 64
