"""A frame of signals that is taken for well-formed at a glance is so by the annotations."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from coherence.v1.ingest_pb2 import StreamBatch
from coherence.v1.signal_pb2 import Signal
from coherence_grpc.convert.plain import is_plain_batch
from coherence_grpc.convert.validation import validator
from tests.builders import TENANT

PLAIN = Signal(source="ci", signal_id="1", type="build", value=0.5)

words = st.sampled_from(["", "a", "a b", "é", "\u200b", "x\n", "y" * 64, "y" * 65, "y" * 128, "y" * 129])
numbers = st.none() | st.sampled_from([0.0, -0.0, 1.0, 1.5, -1e-9, 1000.0, 1000.5, float("nan"), float("inf")])
signals = st.builds(
    Signal,
    tenant_id=st.sampled_from(["", TENANT, "other"]),
    source=words,
    signal_id=words,
    type=words,
    value=numbers,
    weight=numbers,
)


@given(sequence=st.integers(0, 2), given_signals=st.lists(signals | st.just(PLAIN), max_size=3))
@example(sequence=1, given_signals=[PLAIN])
@example(sequence=1, given_signals=[PLAIN] * 1000)
@example(sequence=1, given_signals=[PLAIN] * 1001)
def test_a_plain_batch_breaks_no_rule_and_is_of_its_tenant(sequence: int, given_signals: list[Signal]) -> None:
    batch = StreamBatch(sequence=sequence, signals=given_signals)

    if is_plain_batch(batch, TENANT):
        assert not validator().collect_violations(batch)
        assert {signal.tenant_id for signal in given_signals} <= {"", TENANT}


def test_what_sources_usually_send_is_plain() -> None:
    assert is_plain_batch(StreamBatch(sequence=1, signals=[PLAIN]), TENANT)
    assert is_plain_batch(StreamBatch(sequence=1, signals=[PLAIN] * 1000), TENANT)
