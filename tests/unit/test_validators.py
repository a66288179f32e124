"""Each named guarantee finds its breach, and a good history passes all."""

from __future__ import annotations

import pytest

from tests import validators
from tests.validators import Guarantee, SawGap, SawScore, SawSignal, Seen, Truth, check

GOOD: list[Seen] = [
    SawSignal(1),
    SawScore(1, 1, changed=True),
    SawGap(2, 3),
    SawSignal(5),
    SawScore(3, 5, changed=False),
]
TRUTH = Truth(upto=5, silent=[4], status_changes=[1], latest_version=3)


def test_a_good_history_passes() -> None:
    check(GOOD, TRUTH)


@pytest.mark.parametrize(
    ("guarantee", "history"),
    [
        (validators.ordered, [SawSignal(2), SawSignal(1)]),
        (validators.ordered, [SawScore(2, 0, changed=False), SawScore(1, 0, changed=False)]),
        (validators.unique, [*GOOD, SawSignal(1)]),
        (validators.gapless, GOOD[1:]),
        (validators.status_changes_complete, [saw for saw in GOOD if not isinstance(saw, SawScore)]),
        (validators.scores_follow_their_entries, [SawScore(1, 1, changed=True), SawSignal(1)]),
        (validators.latest_score_arrives, GOOD[:-1]),
    ],
)
def test_a_breach_is_found(guarantee: Guarantee, history: list[Seen]) -> None:
    with pytest.raises(AssertionError):
        guarantee(history, TRUTH)
