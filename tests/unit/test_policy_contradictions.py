"""Rules of a policy that contradict one another."""

from __future__ import annotations

import pytest

from coherence_grpc.errors import ScorePolicyInvalid
from coherence_grpc.materialize import check_policy
from coherence_grpc.model import DAY, Status
from coherence_grpc.policy import DEFAULT, ScorePolicy, Veto

A_VETO = Veto("cancelled", 500_000_000, Status.CRITICAL)


@pytest.mark.parametrize(
    ("policy", "changed", "path"),
    [
        (ScorePolicy(warn_ppm=750_001), {"warn_ppm"}, "policy.warn_threshold"),
        (ScorePolicy(healthy_ppm=499_999), {"healthy_ppm"}, "policy.healthy_threshold"),
        (ScorePolicy(healthy_ppm=1, warn_ppm=2), {"healthy_ppm", "warn_ppm"}, "policy.warn_threshold"),
        (ScorePolicy(half_life_us=DAY // 64 - 1), {"half_life_us"}, "policy.half_life"),
        (ScorePolicy(half_life_us=DAY // 64, window_us=DAY + 1), {"window_us"}, "policy.window"),
        (ScorePolicy(stale_after_us=DAY + 1), {"stale_after_us"}, "policy.stale_after"),
        (ScorePolicy(stale_after_us=DAY, window_us=DAY - 1), {"window_us"}, "policy.window"),
        (ScorePolicy(vetoes=(A_VETO, A_VETO._replace(below_q=1))), set(), "policy.vetoes[1].type"),
    ],
)
def test_rules_that_contradict_one_another_are_refused_by_the_field(
    policy: ScorePolicy, changed: set[str], path: str
) -> None:
    with pytest.raises(ScorePolicyInvalid) as refused:
        check_policy(policy, changed)

    assert [error.path for error in refused.value.fields] == [path]
    assert path in refused.value.message


@pytest.mark.parametrize(
    "policy",
    [
        DEFAULT,
        ScorePolicy(warn_ppm=750_000),
        ScorePolicy(healthy_ppm=0, warn_ppm=0),
        ScorePolicy(half_life_us=DAY // 64),
        ScorePolicy(stale_after_us=DAY),
        ScorePolicy(vetoes=(A_VETO, A_VETO._replace(cap=Status.WARN), A_VETO._replace(type="late"))),
    ],
)
def test_rules_at_their_bounds_are_accepted(policy: ScorePolicy) -> None:
    check_policy(policy)


def test_every_contradiction_is_named_at_once() -> None:
    policy = ScorePolicy(warn_ppm=900_000, half_life_us=1, stale_after_us=2 * DAY, vetoes=(A_VETO, A_VETO))

    with pytest.raises(ScorePolicyInvalid) as refused:
        check_policy(policy)

    assert [error.path for error in refused.value.fields] == [
        "policy.warn_threshold",
        "policy.half_life",
        "policy.stale_after",
        "policy.vetoes[1].type",
    ]
