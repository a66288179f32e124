"""A score over time: what a sweep says at every instant is what the rules say of that instant."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.materialize.sweep import sweep
from tests import generated
from tests.builders import NOON
from tests.oracle import held_over, segments, truth

if TYPE_CHECKING:
    from random import Random

    from coherence_grpc.model import Item
    from coherence_grpc.policy import ScorePolicy

randoms = st.randoms(use_true_random=False)


def check_sweep(items: list[Item], policy: ScorePolicy, start: int, end: int) -> None:
    columns = generated.columns_of(items, grouped=not policy.plain)

    course = list(sweep(columns, policy, start=start, end=end))

    for instant, verdict, _ in course:
        expected = truth(items, policy, instant)
        assert tuple(verdict) == expected[:5]
    # Between two of its instants nothing changes.
    for (_, verdict, _), (after, _, _) in itertools.pairwise(course):
        assert verdict[:3] == truth(items, policy, after - 1)[:3]
    held = {instant: held.status for instant, _, held in course}
    changed = {i: s for n, (i, s) in enumerate(held.items()) if not n or list(held.values())[n - 1] is not s}
    assert changed == held_over(segments(items, policy, start, end), end)


@settings(max_examples=400, deadline=None)
@given(random=randoms, plain=st.booleans())
def test_a_sweep_says_at_every_instant_what_the_rules_say(random: Random, plain: bool) -> None:
    policy = generated.a_policy(random, plain=plain)
    items = generated.items_from(random, NOON, policy.window_us)
    start = generated.an_instant(random, NOON, policy.window_us)

    check_sweep(items, policy, start, start + 2 * policy.window_us)
