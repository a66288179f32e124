"""What is held: hysteresis and dwell step by step; against a recompute from history in test_sweep.py."""

from __future__ import annotations

import pytest

from coherence_grpc.held import dwell_ends, follow, lasted, target_of
from coherence_grpc.model import SECOND, Held, Status
from coherence_grpc.policy import ScorePolicy
from coherence_grpc.rules import Verdict, judged
from tests.builders import NOON

HEALTHY, WARN, CRITICAL, UNKNOWN = Status.HEALTHY, Status.WARN, Status.CRITICAL, Status.UNKNOWN
PLAIN = ScorePolicy()
BAND = ScorePolicy(hysteresis_ppm=20_000)
SLOW = ScorePolicy(dwell_us=10 * SECOND)


def a_verdict(score_ppm: int | None, policy: ScorePolicy = PLAIN, cap: Status | None = None) -> Verdict:
    return judged(policy, score_ppm, count=1, weight_q=1, cap=cap, fresh=True)


def walk(policy: ScorePolicy, *scores: int | None, held: Held | None = None, step: int = SECOND) -> list[Status]:
    """What is held after each score, one a second."""
    seen = []
    for number, score in enumerate(scores):
        held = follow(held, policy, a_verdict(score, policy), NOON + number * step)
        seen.append(held.status)
    return seen


def test_nothing_was_held_before_the_first() -> None:
    assert follow(None, SLOW, a_verdict(600_000), NOON) == Held(WARN, NOON)
    assert target_of(None, SLOW, a_verdict(600_000)) is WARN


def test_without_the_rules_the_held_status_is_the_status() -> None:
    scores = (800_000, 749_999, 499_999, None, 500_000, 750_000)

    assert walk(PLAIN, *scores) == [HEALTHY, WARN, CRITICAL, UNKNOWN, WARN, HEALTHY]


def test_a_band_is_left_only_beyond_it() -> None:
    down = walk(BAND, 800_000, 749_999, 730_000, 729_999)
    up = walk(BAND, 700_000, 750_000, 769_999, 770_000)

    assert down == [HEALTHY, HEALTHY, HEALTHY, WARN]
    assert up == [WARN, WARN, WARN, HEALTHY]


def test_a_band_holds_at_each_threshold_by_itself() -> None:
    # 0.49 is below warn, but not by the band: from HEALTHY it goes to WARN.
    assert walk(BAND, 800_000, 490_000, 479_999, 510_000, 520_000) == [HEALTHY, WARN, CRITICAL, CRITICAL, WARN]


def test_unknown_comes_and_goes_at_once() -> None:
    both = ScorePolicy(hysteresis_ppm=20_000, dwell_us=10 * SECOND)

    assert walk(both, 800_000, None, 749_000, None) == [HEALTHY, UNKNOWN, WARN, UNKNOWN]


def test_a_new_status_is_held_when_it_has_lasted() -> None:
    held = follow(Held(HEALTHY, NOON - 1), SLOW, a_verdict(600_000), NOON)

    assert held == Held(HEALTHY, NOON - 1, ((WARN, NOON),))
    assert dwell_ends(held, SLOW) == NOON + 10 * SECOND
    assert lasted(held, SLOW, NOON + 10 * SECOND - 1) == held
    assert lasted(held, SLOW, NOON + 10 * SECOND) == Held(WARN, NOON + 10 * SECOND)


def test_what_does_not_last_begins_anew() -> None:
    assert walk(SLOW, 800_000, *[600_000] * 9, 800_000, *[600_000] * 10) == [HEALTHY] * 21


def test_a_fall_that_goes_on_is_held_step_by_step() -> None:
    held = follow(Held(HEALTHY, NOON), SLOW, a_verdict(600_000), NOON)
    held = follow(held, SLOW, a_verdict(100_000), NOON + 4 * SECOND)

    assert held.pending == ((WARN, NOON), (CRITICAL, NOON + 4 * SECOND))
    assert lasted(held, SLOW, NOON + 10 * SECOND).status is WARN
    assert lasted(held, SLOW, NOON + 14 * SECOND) == Held(CRITICAL, NOON + 14 * SECOND)


def test_a_rise_is_held_step_by_step_too() -> None:
    held = follow(Held(CRITICAL, NOON), SLOW, a_verdict(900_000), NOON)
    held = follow(held, SLOW, a_verdict(600_000), NOON + 4 * SECOND)

    assert held.pending == ((WARN, NOON),)
    assert follow(held, SLOW, a_verdict(100_000), NOON + 5 * SECOND) == Held(CRITICAL, NOON)


def test_what_was_due_between_two_looks_is_held_since_then() -> None:
    held = follow(Held(HEALTHY, NOON), SLOW, a_verdict(600_000), NOON)

    held = follow(held, SLOW, a_verdict(900_000), NOON + 60 * SECOND)

    assert held == Held(WARN, NOON + 10 * SECOND, ((HEALTHY, NOON + 60 * SECOND),))


def test_a_policy_that_asks_for_less_may_be_satisfied_already() -> None:
    held = follow(Held(HEALTHY, NOON), SLOW, a_verdict(600_000), NOON)

    held = follow(held, ScorePolicy(dwell_us=SECOND), a_verdict(600_000), NOON + 2 * SECOND)

    assert held == Held(WARN, NOON + SECOND)


def test_a_veto_is_beyond_every_band() -> None:
    held = follow(Held(HEALTHY, NOON), BAND, a_verdict(900_000, BAND, CRITICAL), NOON + 1)

    assert held == Held(CRITICAL, NOON + 1)
    assert target_of(held, BAND, a_verdict(900_000, BAND)) is HEALTHY


@pytest.mark.parametrize("held", [None, Held(WARN, NOON)])
def test_nothing_pending_never_ends(held: Held | None) -> None:
    assert dwell_ends(held, SLOW) is None
