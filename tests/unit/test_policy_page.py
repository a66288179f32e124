"""What docs/policy.md works out is what the rules make of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from coherence_grpc.cli.policy_rules import MEANING
from coherence_grpc.held import follow, lasted
from coherence_grpc.model import DAY, SECOND, Held, Status
from coherence_grpc.policy import DEFAULT, ScorePolicy, Veto
from coherence_grpc.rules import Kinds, Tally, Verdict, policy_status
from coherence_grpc.score import quantise

PAGE: Final = Path(__file__).parents[2].joinpath("docs/policy.md").read_text()
HOUR: Final = 3600 * SECOND
# 2026-03-01T00:00Z.
MIDNIGHT: Final = 1_772_323_200 * SECOND
NOW: Final = MIDNIGHT + 18 * HOUR
SIGNALS: Final = re.compile(
    r"^\| (\w+) \| (\w+) \| ([\d.]+) \| (\d+) \| (\d\d):00Z \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE
)
HELD: Final = re.compile(r"^\| (\d\d):00 \| ([\d.]+) \| (\w+) \| (\w+) \| (.*?) ?\|$", re.MULTILINE)
WEIGHED: Final = ScorePolicy(half_life_us=12 * HOUR, type_weights=(("deploy", 2_000_000),))
CAPPED: Final = replace(WEIGHED, source_cap_ppm=500_000)


def verdict_under(policy: ScorePolicy) -> Verdict:
    """The verdict over the page's signals."""
    kinds = Kinds(policy)
    tally = Tally(kinds, NOW - policy.window_us)
    newest = 0
    for source, type_, value, weight, hour, *_ in SIGNALS.findall(PAGE):
        ts = MIDNIGHT + int(hour) * HOUR
        newest = max(newest, ts)
        tally.add(ts, quantise(float(value)), quantise(float(weight)), kinds.number(source, type_))
    return tally.verdict(data_time=newest, now=NOW)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (DEFAULT, "(0.9 + 0.5 + 0.2) ÷ 3 = 0.533333, WARN"),
        (WEIGHED, "(0.9·2 + 0.5·1 + 0.2·4) ÷ 7 = 0.442857, CRITICAL"),
        (CAPPED, "(2.3 + 0.2·3.5) ÷ (3 + 3.5) = 0.461538, CRITICAL"),
    ],
    ids=["default", "weighed", "capped"],
)
def test_the_scores_of_the_worked_example_are_those_of_the_rules(policy: ScorePolicy, words: str) -> None:
    verdict = verdict_under(policy)

    assert words in PAGE
    assert verdict.score_ppm is not None
    assert words.endswith(f"= {verdict.score_ppm / 10**6:.6f}, {verdict.status}")


def test_the_weights_of_the_worked_example_are_those_of_the_rules() -> None:
    kinds = Kinds(WEIGHED)
    tally = Tally(kinds, MIDNIGHT)
    least = tally.effective(MIDNIGHT, quantise(1), kinds.number("ci", "build"))

    for source, type_, _, weight, hour, by_type, by_age, counts in SIGNALS.findall(PAGE):
        ts = MIDNIGHT + int(hour) * HOUR
        effective = tally.effective(ts, quantise(float(weight)), kinds.number(source, type_))

        assert effective == int(counts) * least
        assert int(by_type) * int(by_age) * int(weight) == int(counts)


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (replace(CAPPED, vetoes=(Veto("deploy", 250_000_000, Status.WARN),)), Status.CRITICAL),
        (replace(DEFAULT, vetoes=(Veto("deploy", 250_000_000, Status.CRITICAL),)), Status.CRITICAL),
        (replace(CAPPED, minimum_signals=4), Status.UNKNOWN),
        (replace(CAPPED, stale_after_us=5 * HOUR), Status.UNKNOWN),
    ],
    ids=["veto to WARN", "veto to CRITICAL", "minimum", "stale"],
)
def test_what_the_page_says_of_the_other_rules_holds(policy: ScorePolicy, status: Status) -> None:
    assert verdict_under(policy).status is status


def test_the_held_statuses_of_the_page_are_those_of_hysteresis_and_dwell() -> None:
    policy = ScorePolicy(hysteresis_ppm=20_000, dwell_us=3 * HOUR)
    held = Held(Status.HEALTHY, MIDNIGHT - DAY)
    rows = HELD.findall(PAGE)

    for hour, score, status, shown, _ in rows:
        instant, ppm = MIDNIGHT + int(hour) * HOUR, round(float(score) * 10**6)
        held = follow(lasted(held, policy, instant), policy, Verdict(ppm, policy_status(policy, ppm), 1, 1), instant)

        assert (policy_status(policy, ppm), held.status) == (status, shown), hour
    assert len(rows) == 9


def test_the_page_has_every_rule() -> None:
    assert [rule for rule in MEANING if f"`{rule}`" not in PAGE] == []
