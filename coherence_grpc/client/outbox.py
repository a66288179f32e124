"""What a Publisher has accepted and no ack has covered yet: the state of one stream of signals, without its I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from coherence.v1.ingest_pb2 import StreamBatch, StreamSignalsRequest
from coherence_grpc.client.messages import signal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coherence_grpc.client.model import Signal


class Limits(NamedTuple):
    """What the server takes: unacknowledged signals, and signals and bytes a batch."""

    credits: int
    max_signals: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Signals under one sequence number. Once sent it stays as it is: the server knows it by its number."""

    sequence: int
    count: int
    frame: bytes

    def signals(self) -> list[Signal]:
        """What it holds."""
        return [signal_of(message) for message in StreamSignalsRequest.FromString(self.frame).batch.signals]


class Outbox:
    """Signals wait here until they are cut into batches, and batches until they are acknowledged.

    A signal comes as the encoding of a StreamBatch that holds it alone: such encodings merge by concatenation.
    `accepted` counts the signals that came, `pending` those of them that no ack has covered. What is here when `hurry`
    is called is sent without waiting for more. An ack is wanted for the first `flush_through` signals as soon as they
    are sent. `finishing`: nothing will come any more.
    """

    def __init__(self) -> None:
        self.acked_through = 0
        self.accepted = 0
        self.pending = 0
        self.flush_through = 0
        self.finishing = False
        self._hurried = 0
        self._waiting: deque[bytes] = deque()
        self._batches: deque[Batch] = deque()
        self._sent = 0
        self._outstanding = 0

    @property
    def settled(self) -> int:
        """Signals that an ack has covered."""
        return self.accepted - self.pending

    @property
    def outstanding(self) -> int:
        """Signals that were sent on this connection and are not acknowledged."""
        return self._outstanding

    @property
    def all_sent(self) -> bool:
        """Everything that is pending is outstanding."""
        return self._outstanding == self.pending

    @property
    def finished(self) -> bool:
        """Nothing is pending, and nothing will come any more."""
        return self.finishing and not self.pending

    def put(self, signal: bytes) -> int:
        """Accept a signal; how many are in no batch yet."""
        self._waiting.append(signal)
        self.accepted += 1
        self.pending += 1
        return len(self._waiting)

    def hurry(self) -> None:
        """Let what is here go out in batches that are not whole."""
        self._hurried = self.accepted

    def next(self, limits: Limits) -> Batch | None:
        """The batch to send next; None when there is none, or no credit for it.

        Those that were sent on an earlier connection come first, as they were. A new one is cut when a whole one waits
        or when it is hurried. It is never made smaller because little credit is left: more comes with the next ack.
        """
        if self._sent == len(self._batches):
            whole = min(len(self._waiting), limits.max_signals)
            if not self._waiting or not (whole == limits.max_signals or self._urgent):
                return None
            if self._outstanding and self._outstanding + whole > limits.credits:
                return None
            self._batches.append(self._cut(limits))
        batch = self._batches[self._sent]
        if self._outstanding and self._outstanding + batch.count > limits.credits:
            return None
        self._sent += 1
        self._outstanding += batch.count
        return batch

    def ack(self, through: int) -> None:
        """Everything up to this batch is settled.

        Raises:
            ValueError: it has not been sent.
        """
        newest = self.acked_through + self._sent
        if through > newest:
            message = f"batch {through} was acknowledged, but only {newest} had been sent"
            raise ValueError(message)
        while self.acked_through < through:
            batch = self._batches.popleft()
            self.acked_through = batch.sequence
            self.pending -= batch.count
            self._outstanding -= batch.count
            self._sent -= 1

    def rewind(self) -> None:
        """A new connection: what is not acknowledged is sent again."""
        self._sent = self._outstanding = 0

    def batch(self, sequence: int) -> Batch | None:
        """A batch that is not acknowledged."""
        place = sequence - self.acked_through - 1
        return self._batches[place] if 0 <= place < len(self._batches) else None

    def unacked(self) -> Iterator[Signal]:
        """The pending signals, in order."""
        for batch in self._batches:
            yield from batch.signals()
        yield from map(signal_of, StreamBatch.FromString(b"".join(self._waiting)).signals)

    @property
    def _urgent(self) -> bool:
        return self.accepted - len(self._waiting) < self._hurried

    def _cut(self, limits: Limits) -> Batch:
        parts, size = list[bytes](), 0
        most = min(limits.max_signals, limits.credits)
        while self._waiting and len(parts) < most and (not parts or size + len(self._waiting[0]) <= limits.max_bytes):
            parts.append(self._waiting.popleft())
            size += len(parts[-1])
        message = StreamBatch.FromString(b"".join(parts))
        message.sequence = self.acked_through + len(self._batches) + 1
        return Batch(message.sequence, len(parts), StreamSignalsRequest(batch=message).SerializeToString())
