"""Streams of signals on a real store, and short ways to feed one and to take what it sends."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.ingest import Ingest, Streams
from coherence_grpc.ingest.streamed import Ack, Batch, Flush, Opened, Opening, Received
from coherence_grpc.model import Key, OnConflict, Tags
from tests.builders import NOON, TENANT, ManualClock, a_caller, a_publication
from tests.faults import InterposedSignals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from typing import Self

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.ingest.streamed import Sent
    from coherence_grpc.ingest.streaming import SignalStream
    from coherence_grpc.model import Draft, Item, StoredSignal

T = TypeVar("T")
STREAM = "stream"


class Feed:
    """What a client sends, as it sends it."""

    def __init__(self, *, first: int = 1, on_conflict: OnConflict = OnConflict.REJECT) -> None:
        self._queue: asyncio.Queue[Received | BaseException] = asyncio.Queue()
        self._on_conflict = on_conflict
        self.next = first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        # As from a connection: the others have their turn in between.
        await asyncio.sleep(0)
        frame = await self._queue.get()
        if isinstance(frame, BaseException):
            raise frame
        return frame

    def batch(
        self,
        *drafts: Item | Draft,
        sequence: int | None = None,
        refused: Mapping[int, CoherenceError] | None = None,
    ) -> int:
        """The next batch, of one fresh signal unless told otherwise; its number."""
        sequence = self.next if sequence is None else sequence
        publication = a_publication(
            *drafts, request_id=f"{STREAM}:{sequence}", refused=refused, on_conflict=self._on_conflict
        )
        self._queue.put_nowait(Batch(sequence, publication))
        self.next = sequence + 1
        return sequence

    def flush(self) -> None:
        self._queue.put_nowait(Flush())

    def end(self) -> None:
        self._queue.put_nowait(StopAsyncIteration())

    def breaks(self, error: Exception) -> None:
        self._queue.put_nowait(error)

    @property
    def read(self) -> bool:
        """Everything was taken from it."""
        return self._queue.empty()


class World:
    """Streams on a store that can be held up; `stuck` is what stuck consumers were told."""

    def __init__(self, store: InterposedSignals, ingest: Ingest, streams: Streams) -> None:
        self.store = store
        self.ingest = ingest
        self.streams = streams
        self.stuck: list[CoherenceError] = []

    @asynccontextmanager
    async def open(
        self, *, acked_through: int = 0, max_age_s: float = 60.0, on_conflict: OnConflict = OnConflict.REJECT
    ) -> AsyncIterator[tuple[SignalStream, Feed]]:
        """A stream, and what feeds it; its Opened is yet to be taken."""
        feed = Feed(first=acked_through + 1, on_conflict=on_conflict)
        opening = Opening(TENANT, STREAM, acked_through, Tags(), on_conflict=on_conflict)
        stream = self.streams.open(opening, feed, a_caller(), max_age_s=max_age_s, on_stuck=self.stuck.append)
        async with stream:
            yield stream, feed

    @asynccontextmanager
    async def opened(
        self, *, acked_through: int = 0, max_age_s: float = 60.0, on_conflict: OnConflict = OnConflict.REJECT
    ) -> AsyncIterator[tuple[SignalStream, Feed]]:
        """The same, with its Opened taken."""
        async with self.open(acked_through=acked_through, max_age_s=max_age_s, on_conflict=on_conflict) as (
            stream,
            feed,
        ):
            assert isinstance(await taken(stream), Opened)
            yield stream, feed

    async def stored(self) -> list[str]:
        """The signal ids in the log, in its order."""
        entries = await self.store.port.tail(TENANT, after=0, limit=100_000)
        return [entry.item.signal_id for entry in entries if entry.item is not None]

    async def signal(self, signal_id: str) -> StoredSignal:
        """The signal of that id, as it is now."""
        found = await self.store.port.get(Key(TENANT, "ci", signal_id, NOON))
        assert found is not None
        return found


@asynccontextmanager
async def open_world(directory: Path, *, patience_s: float = 30.0) -> AsyncIterator[World]:
    clock = ManualClock()
    async with open_signal_store(directory, clock) as signals:
        store = InterposedSignals(signals)
        async with Ingest(store.port, clock, on_commit=[], allow_unlimited=True) as ingest:
            try:
                yield World(store, ingest, Streams(ingest, patience_s=patience_s))
            finally:
                store.release()


async def taken(stream: SignalStream) -> Sent:
    """The next frame."""
    async with asyncio.timeout(10):
        return await anext(stream)


async def the_next(stream: SignalStream, kind: type[T]) -> T:
    """The next frame of the kind; others before it are passed over."""
    while True:
        frame = await taken(stream)
        if isinstance(frame, kind):
            return frame


async def acked(stream: SignalStream, through: int) -> list[Ack]:
    """The Acks up to the batch."""
    acks = [await the_next(stream, Ack)]
    while acks[-1].acked_through < through:
        acks.append(await the_next(stream, Ack))
    return acks
