from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence.v1.ingest_pb2 import StreamBatch, StreamSignalsRequest
from coherence_grpc.client.outbox import Batch, Limits, Outbox

LIMITS: Final = Limits(credits=10, max_signals=4, max_bytes=10_000)


def a_signal(name: str, *, source: str = "ci") -> bytes:
    batch = StreamBatch()
    batch.signals.add(source=source, type="build", value=0.5, signal_id=name)
    return batch.SerializeToString()


def filled(count: int) -> Outbox:
    outbox = Outbox()
    for number in range(count):
        outbox.put(a_signal(str(number)))
    return outbox


def drained(outbox: Outbox, limits: Limits = LIMITS) -> list[Batch]:
    batches = list[Batch]()
    while (batch := outbox.next(limits)) is not None:
        batches.append(batch)
    return batches


def names(batch: Batch) -> list[str]:
    return [signal.signal_id for signal in batch.signals()]


def test_a_batch_is_sent_when_it_is_whole_or_hurried() -> None:
    outbox = filled(5)

    whole = drained(outbox)
    outbox.hurry()
    rest = drained(outbox)
    outbox.put(a_signal("late"))

    assert [names(batch) for batch in whole] == [["0", "1", "2", "3"]]
    assert [names(batch) for batch in rest] == [["4"]]
    assert drained(outbox) == []


def test_no_more_is_outstanding_than_there_are_credits() -> None:
    outbox = filled(20)

    first = drained(outbox)
    outbox.ack(1)
    second = drained(outbox)

    assert [batch.count for batch in first] == [4, 4]
    assert [batch.count for batch in second] == [4]
    assert outbox.outstanding == 8


def test_a_batch_that_was_sent_is_sent_again_as_it_was() -> None:
    outbox = filled(8)
    before = drained(outbox)
    outbox.ack(1)

    outbox.rewind()
    again = drained(outbox, Limits(credits=10, max_signals=2, max_bytes=10_000))

    assert again == before[1:]


def test_a_batch_stays_below_the_bytes_that_the_server_takes() -> None:
    outbox = filled(4)
    outbox.hurry()
    size = len(a_signal("0"))

    batches = drained(outbox, Limits(credits=10, max_signals=4, max_bytes=3 * size))

    assert [batch.count for batch in batches] == [3, 1]
    frame = StreamSignalsRequest.FromString(batches[0].frame)
    assert frame.batch.ByteSize() <= 3 * size + 11


def test_a_signal_that_is_too_large_for_a_batch_goes_alone() -> None:
    outbox = filled(2)
    outbox.hurry()

    batches = drained(outbox, Limits(credits=10, max_signals=4, max_bytes=1))

    assert [batch.count for batch in batches] == [1, 1]


def test_an_ack_for_what_was_not_sent_is_an_error() -> None:
    outbox = filled(8)
    drained(outbox)
    outbox.rewind()

    with pytest.raises(ValueError, match="batch 1 was acknowledged, but only 0 had been sent"):
        outbox.ack(1)


def test_what_is_not_acknowledged_can_be_named() -> None:
    outbox = filled(6)
    drained(outbox)

    assert [signal.signal_id for signal in outbox.unacked()] == ["0", "1", "2", "3", "4", "5"]
    assert outbox.pending == 6


class _Server:
    """Takes batches as the backbone does: each number once, with the content of its first time."""

    def __init__(self) -> None:
        self.stored: dict[int, list[str]] = {}

    def take(self, batch: Batch) -> None:
        assert self.stored.setdefault(batch.sequence, names(batch)) == names(batch)

    @property
    def log(self) -> list[str]:
        return [name for sequence in sorted(self.stored) for name in self.stored[sequence]]


STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 9)),
        st.tuples(st.just("hurry"), st.just(0)),
        st.tuples(st.just("send"), st.integers(1, 4)),
        st.tuples(st.just("lose"), st.integers(1, 4)),
        st.tuples(st.just("ack"), st.integers(0, 3)),
        st.tuples(st.just("reconnect"), st.integers(1, 12)),
    ),
    max_size=60,
)


class _World:
    """A Publisher's outbox and a server, with a connection between them that loses what it likes."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.server = _Server()
        self.limits = LIMITS
        self.accepted = list[str]()
        self._heard = 0

    def put(self, count: int) -> None:
        for _ in range(count):
            self.accepted.append(str(len(self.accepted)))
            self.outbox.put(a_signal(self.accepted[-1]))

    def hurry(self, _: int) -> None:
        self.outbox.hurry()

    def send(self, count: int) -> None:
        for _ in range(count):
            batch = self.outbox.next(self.limits)
            if batch is None:
                return
            self.server.take(batch)
            self._heard = max(self._heard, batch.sequence)
            assert self.outbox.outstanding <= max(self.limits.credits, batch.count)

    def lose(self, _: int) -> None:
        """A batch is written to a connection that breaks."""
        self.outbox.next(self.limits)
        self.outbox.rewind()

    def ack(self, count: int) -> None:
        """The server acknowledges some of what it has and this connection has sent."""
        for _ in range(count):
            batch = self.outbox.batch(self.outbox.acked_through + 1)
            if batch is None or batch.sequence > self._heard or self.outbox.outstanding < batch.count:
                return
            self.outbox.ack(batch.sequence)

    def reconnect(self, credits: int) -> None:  # noqa: A002 - the contract's word
        self.outbox.rewind()
        self.limits = Limits(credits, min(4, credits), 10_000)


@given(STEPS)
def test_whatever_is_cut_every_accepted_signal_arrives_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    world = _World()

    for step, much in steps:
        getattr(world, step)(much)
        assert world.outbox.pending == len(world.accepted) - world.outbox.settled
    world.reconnect(100)
    world.outbox.hurry()
    while world.outbox.pending:
        world.send(1)
        world.ack(1)

    assert world.server.log == world.accepted
