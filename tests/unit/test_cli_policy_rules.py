"""Rules of a policy as people write and read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from coherence.v1.score_pb2 import STATUS_CRITICAL, STATUS_WARN, ScorePolicy, Veto
from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.policy_rules import apply, changes, parse_span, policy_of, read_file, record, shown, span_shown

if TYPE_CHECKING:
    from pathlib import Path

CANCELLED = Veto(type="cancelled", below=0.25, cap_status=STATUS_CRITICAL)


@st.composite
def policies(draw: st.DrawFn) -> ScorePolicy:
    """Any policy whose numbers are kept as they are."""
    ppm = st.integers(0, 10**6).map(lambda n: n / 10**6)
    span = st.integers(1_000_000, 10**13).map(a_span)
    policy = ScorePolicy(
        window=draw(span),
        half_life=draw(st.none() | span),
        stale_after=draw(st.none() | span),
        dwell=draw(span),
        healthy_threshold=draw(ppm),
        warn_threshold=draw(ppm),
        hysteresis=draw(ppm),
        source_share_cap=draw(st.none() | ppm),
        minimum_signals=draw(st.integers(1, 10**6)),
        type_weights=draw(st.dictionaries(st.text(st.sampled_from("ab. "), min_size=1, max_size=4), ppm, max_size=3)),
    )
    for type_ in draw(st.lists(st.sampled_from("abc"), max_size=3)):
        policy.vetoes.append(Veto(type=type_, below=draw(ppm), cap_status=STATUS_WARN))
    return policy


def a_span(us: int) -> Duration:
    span = Duration()
    span.FromMicroseconds(us)
    return span


@given(policies())
def test_what_is_shown_as_json_is_read_back_the_same(policy: ScorePolicy) -> None:
    assert policy_of(json.loads(json.dumps(record(policy)))) == policy


@given(st.integers(0, 10**14))
def test_a_duration_is_read_back_as_it_is_shown(us: int) -> None:
    assert parse_span("window", span_shown(a_span(us))) == us


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86_400), ("7d", 604_800), ("90m", 5_400), ("45s", 45), ("1d 12h", 129_600), ("1h30m", 5_400), ("60", 60)],
)
def test_a_duration_is_written_with_units(text: str, seconds: int) -> None:
    assert parse_span("window", text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "abc", "1x", "-1h", "1h x", "h", True, "9" * 30 + "d", "1e3"])
def test_what_is_no_duration_is_refused_by_its_rule(text: object) -> None:
    with pytest.raises(Failure, match="dwell") as failure:
        parse_span("dwell", text)

    assert failure.value.exit_code == USAGE


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (86_400_000_000, "24h"),
        (604_800_000_000, "7d"),
        (5_400_000_000, "90m"),
        (1_500_000, "1.5s"),
        (0, "0s"),
        (1, "0.000001s"),
    ],
)
def test_a_duration_is_shown_in_the_largest_unit_that_it_is_whole_in(us: int, text: str) -> None:
    assert span_shown(a_span(us)) == text


def test_settings_change_what_they_name_and_tell_it_once() -> None:
    policy = ScorePolicy(type_weights={"deploy": 2, "build": 3}, vetoes=[CANCELLED], half_life=a_span(1))

    touched = apply(
        policy,
        [
            "hysteresis=0.02",
            "type_weights.deploy=",
            "type_weights.a.b=0.5",
            "half_life=",
            "vetoes.late = 0.5:WARN, 0.1:critical",
            "dwell=3h",
        ],
    )

    assert touched == ["hysteresis", "type_weights", "half_life", "vetoes", "dwell"]
    assert (policy.hysteresis, policy.dwell.seconds, policy.HasField("half_life")) == (0.02, 10_800, False)
    assert dict(policy.type_weights) == {"build": 3, "a.b": 0.5}
    assert [(veto.type, veto.below, veto.cap_status) for veto in policy.vetoes] == [
        ("cancelled", 0.25, STATUS_CRITICAL),
        ("late", 0.5, STATUS_WARN),
        ("late", 0.1, STATUS_CRITICAL),
    ]


def test_an_empty_setting_takes_the_vetoes_of_a_type_or_all_weights_away() -> None:
    policy = ScorePolicy(type_weights={"deploy": 2}, vetoes=[CANCELLED])

    apply(policy, ["vetoes.cancelled=", "type_weights="])

    assert policy == ScorePolicy()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("hysteresis", "rule=value"),
        ("window.seconds=5", "rule=value"),
        ("foo=1", "foo"),
        ("foo=", "foo"),
        ("etag=", "etag"),
        ("hysteresis=much", "hysteresis"),
        ("minimum_signals=1.5", "minimum_signals"),
        ("vetoes=1", "vetoes"),
        ("type_weights=1", "type_weights"),
        ("vetoes.a=0.5", "vetoes.a"),
        ("vetoes.a=0.5:HEALTHY", "vetoes.a"),
        ("type_weights.\udc80=1", "--set"),
    ],
)
def test_a_setting_that_says_nothing_is_refused_by_its_rule(setting: str, named: str) -> None:
    policy = ScorePolicy(vetoes=[CANCELLED])

    with pytest.raises(Failure, match=named) as failure:
        apply(policy, [setting])

    assert failure.value.exit_code == USAGE
    assert failure.value.next_step
    assert policy == ScorePolicy(vetoes=[CANCELLED])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"foo": 1}, "foo"),
        ({"window": [1]}, "window"),
        ({"minimum_signals": True}, "minimum_signals"),
        ({"healthy_threshold": {}}, "healthy_threshold"),
        ({"type_weights": []}, "type_weights"),
        ({"type_weights": {"a": None}}, "type_weights.a"),
        ({"vetoes": {}}, "vetoes"),
        ({"vetoes": [{"type": "a", "below": 0.5}]}, r"vetoes\[0\]"),
        ({"vetoes": [{"type": "a", "below": 0.5, "cap_status": "RED"}]}, r"vetoes\[0\].cap_status"),
    ],
)
def test_a_file_with_a_word_that_is_none_is_refused_by_it(words: dict[str, object], named: str) -> None:
    with pytest.raises(Failure, match=named):
        policy_of(words)


def test_a_file_is_toml_where_its_name_says_so_and_json_elsewhere(tmp_path: Path) -> None:
    toml, other = tmp_path / "policy.toml", tmp_path / "policy"
    toml.write_text('window = "7d"\n[type_weights]\ndeploy = 2\n')
    other.write_text('{"window": "7d", "type_weights": {"deploy": 2}, "etag": "1-0", "half_life": null}')

    read = [policy_of(read_file(str(path))) for path in (toml, other)]

    assert read == [ScorePolicy(window=a_span(604_800_000_000), type_weights={"deploy": 2})] * 2


@pytest.mark.parametrize("content", [b"[", b"[1]", b"\xff"])
def test_a_file_that_holds_no_policy_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(content)

    with pytest.raises(Failure, match=r"policy\.json"):
        read_file(str(path))


def test_what_differs_is_told_rule_by_rule_in_their_order() -> None:
    before = ScorePolicy(hysteresis=0, dwell=a_span(0), type_weights={"build": 2, "deploy": 2})
    after = ScorePolicy(hysteresis=0.02, dwell=a_span(0), type_weights={"deploy": 3}, vetoes=[CANCELLED])

    assert changes(before, after) == [
        ("type_weights.build", "2", "–"),
        ("type_weights.deploy", "2", "3"),
        ("vetoes.cancelled", "–", "0.25:CRITICAL"),
        ("hysteresis", "0", "0.02"),
    ]


@given(policies())
def test_a_policy_does_not_differ_from_itself(policy: ScorePolicy) -> None:
    assert changes(policy, policy) == []
    assert set(shown(policy)) >= {"window", "dwell", "hysteresis"}
