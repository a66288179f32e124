"""What is plainly well-formed is well-formed by the annotations, whatever it is."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buf.validate.validate_pb2 import field
from coherence.v1.ingest_pb2 import PublishSignalsRequest
from coherence.v1.signal_pb2 import Signal, Tags
from coherence_grpc.convert.plain import representative
from coherence_grpc.convert.validation import validator

TENANT = "acme"
# Plain and near the edges, so that a request of three is often plain as a whole.
WORDS = st.one_of(
    st.sampled_from(
        ["", "a", "ci build", "x" * 64, "x" * 65, "x" * 128, "x" * 129, "\x00", "tab\t", "\x7f", "é", "\u200b"]
    ),
    st.text(max_size=130),
)
NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 0.5, 1000.0, -0.1, 1.1, 1000.1]), st.floats())


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    signal = Signal(source=draw(WORDS), signal_id=draw(WORDS), type=draw(WORDS))
    signal.tenant_id = draw(st.sampled_from(["", TENANT, "other", "BAD"]))
    for name in ("value", "weight"):
        if draw(st.booleans()):
            setattr(signal, name, draw(NUMBERS))
    return signal


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(signals(), max_size=3), st.sampled_from([TENANT, "BAD", ""]), st.sampled_from([0, 1, 9]))
def test_a_representative_is_well_formed_only_when_the_request_is(
    given_signals: list[Signal], tenant_id: str, purpose: int
) -> None:
    request = PublishSignalsRequest(tenant_id=tenant_id, signals=given_signals)
    request.tags.purpose = purpose  # type: ignore[assignment]  # 9 is none, as a caller may send it

    whole = validator().collect_violations(request)
    judged = validator().collect_violations(representative(request))

    assert bool(whole) == bool(judged)


def test_a_plain_request_is_judged_by_its_first_signal_and_everything_but_the_others() -> None:
    plain = Signal(source="ci", signal_id="1", type="build", value=0.5)
    request = PublishSignalsRequest(
        tenant_id=TENANT,
        signals=[plain] * 3,
        on_conflict=9,  # type: ignore[arg-type]  # none of them, as a caller may send it
        durability=9,  # type: ignore[arg-type]
        request_id="r" * 129,
        tags=Tags(purpose=9),  # type: ignore[arg-type]
    )

    judged = representative(request)

    assert len(judged.signals) == 1
    request.ClearField("signals")
    request.signals.append(plain)
    assert judged == request


def test_a_batch_that_is_too_long_is_looked_at_as_it_is() -> None:
    request = PublishSignalsRequest(tenant_id=TENANT, signals=[Signal(source="ci", type="build", value=1)] * 1001)

    assert representative(request) is request


def test_the_annotations_ask_for_nothing_that_plainness_does_not_know() -> None:
    known = {
        "tenant_id": {"string.pattern", "ignore"},
        "source": {"string.min_len", "string.max_len", "string.pattern"},
        "signal_id": {"string.max_len", "string.pattern"},
        "type": {"string.min_len", "string.max_len", "string.pattern"},
        "value": {"required", "double.gte", "double.lte", "double.finite"},
        "weight": {"double.gte", "double.lte", "double.finite"},
        "ts": set(),
    }

    for described in Signal.DESCRIPTOR.fields:
        rules = described.GetOptions().Extensions[field]
        asked = set()
        for kind, value in rules.ListFields():
            inner = [f"{kind.name}.{rule.name}" for rule, _ in value.ListFields()] if kind.message_type else [kind.name]
            asked.update(inner)
        assert asked == known[described.name], described.name

    asked_of_requests = {described.name for described in PublishSignalsRequest.DESCRIPTOR.fields}
    assert asked_of_requests == {
        "tenant_id",
        "signals",
        "on_conflict",
        "durability",
        "request_id",
        "tags",
        "backfill",
        "validate_only",
    }
