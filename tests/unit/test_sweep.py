"""A score over time: what a sweep says at every instant is what the rules say of that instant."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.materialize.course import Course
from coherence_grpc.materialize.sweep import sweep
from coherence_grpc.model import Held, Status
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


def check_course(items: list[Item], policy: ScorePolicy, start: int, end: int, samples: list[int]) -> None:
    columns = generated.columns_of(items, grouped=not policy.plain)

    course = Course(columns, policy, start=start, end=end, samples=samples).finished()

    held = held_over(segments(items, policy, start, end), end)
    assert [point.instant for point in course.points] == samples
    for instant, verdict, shown in course.points:
        assert tuple(verdict) == truth(items, policy, instant)[:5]
        assert shown.status is held[max(since for since in held if since <= instant)]
    spans = list(course.spans)
    assert {span.start: span.status for span in spans} == held
    assert [span.end for span in spans] == [*list(held)[1:], end]
    assert course.change_count == len(held) - 1


@settings(max_examples=400, deadline=None)
@given(random=randoms, plain=st.booleans())
def test_a_course_has_the_points_and_the_changes_of_the_sweep(random: Random, plain: bool) -> None:
    policy = generated.a_policy(random, plain=plain)
    items = generated.items_from(random, NOON, policy.window_us, most=20)
    start = generated.an_instant(random, NOON, policy.window_us)
    end = start + random.choice((0, policy.window_us, 2 * policy.window_us))
    samples = {min(end, generated.an_instant(random, start, policy.window_us)) for _ in range(random.randrange(6))}

    check_course(items, policy, start, end, sorted(sample for sample in samples if sample >= start))


@settings(max_examples=100, deadline=None)
@given(random=randoms, plain=st.booleans())
def test_a_course_in_parts_is_the_course_as_a_whole(random: Random, plain: bool) -> None:
    policy = generated.a_policy(random, plain=plain)
    columns = generated.columns_of(generated.items_from(random, NOON, policy.window_us), grouped=not policy.plain)
    start, end = NOON, NOON + 2 * policy.window_us
    cut = generated.an_instant(random, start, policy.window_us)
    whole = Course(columns, policy, start=start, end=end).finished()

    before = Course(columns, policy, start=start, end=max(start, cut))
    while not before.take(1):
        pass
    after = Course(columns, policy, start=max(start, cut), end=end, held=before.held).finished()

    assert after.held == whole.held
    assert before.change_count + after.change_count == whole.change_count


@settings(max_examples=200, deadline=None)
@given(random=randoms, plain=st.booleans())
def test_a_course_ends_with_what_the_sweep_holds(random: Random, plain: bool) -> None:
    policy = generated.a_policy(random, plain=plain)
    columns = generated.columns_of(generated.items_from(random, NOON, policy.window_us), grouped=not policy.plain)
    end = generated.an_instant(random, NOON, policy.window_us)
    before = random.choice(
        (None, Held(Status.HEALTHY, NOON - 1), Held(Status.WARN, None, ((Status.CRITICAL, NOON - 1),)))
    )

    *_, last = sweep(columns, policy, start=NOON, end=max(end, NOON), held=before)

    assert Course(columns, policy, start=NOON, end=max(end, NOON), held=before).finished().held == last.held
