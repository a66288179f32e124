"""The tails of all watched tenants, and the streams that are open on them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from coherence_grpc.errors import CoherenceError, Draining
from coherence_grpc.events.frames import ClosingReason
from coherence_grpc.events.reader import Reader
from coherence_grpc.events.tail import Tail

if TYPE_CHECKING:
    from coherence_grpc.events.frames import EventFilter
    from coherence_grpc.events.gate import Gate, Listener
    from coherence_grpc.events.log import Log
    from coherence_grpc.model import Appended, Score
    from coherence_grpc.ports import News
    from coherence_grpc.tokens import Cursor

POLL_S: Final = 0.1


class Closable(Protocol):
    """An open stream."""

    def close(self, reason: ClosingReason) -> None:
        """End with what the consumer is told."""
        ...


class Stand:
    """Where a listener stands: a reader of one tenant behind a gate."""

    __slots__ = ("_listener", "_tails", "gate", "reader", "tail")

    def __init__(self, tails: Tails, tail: Tail, gate: Gate, listener: Listener, reader: Reader) -> None:
        self.tail = tail
        self.gate = gate
        self.reader = reader
        self._tails = tails
        self._listener = listener

    def leave(self) -> None:
        """Stand there no more; the tail goes with its last listener."""
        self.tail.leave(self._listener)
        self._tails.release(self.tail)


class Tails:
    """Tails come with the first listener of a tenant and go with the last."""

    def __init__(self, log: Log, group: asyncio.TaskGroup, *, capacity: int) -> None:
        self.log = log
        self.draining = False
        self._group = group
        self._capacity = capacity
        self._tails: dict[str, Tail] = {}
        self._streams: set[Closable] = set()

    def push(self, tenant_id: str, news: Appended | Score) -> None:
        """Something was committed."""
        tail = self._tails.get(tenant_id)
        if tail is not None:
            tail.push(news)

    def rung(self, news: News) -> None:
        """A doorbell rang."""
        tail = self._tails.get(news.tenant_id)
        if tail is not None:
            tail.rung(news)

    def stand(
        self,
        tenant_id: str,
        listener: Listener,
        filter: EventFilter,  # noqa: A002 - the contract's word
        cursor: Cursor,
        *,
        newest: Cursor | None = None,
        coalesce_s: float = 0.0,
    ) -> Stand:
        """Put a listener at a cursor; a new tail starts at the newest position known, or the cursor if none is."""
        tail = self._tails.get(tenant_id)
        if tail is None:
            tail = Tail(tenant_id, newest or cursor, self.log, self._group, capacity=self._capacity)
            self._tails[tenant_id] = tail
            # What was committed since that position was read is not pushed to a tail that was not there.
            tail.want()
        gate = tail.join(listener, coalesce_s=coalesce_s, entries=filter.entries)
        return Stand(self, tail, gate, listener, Reader(self.log, tail, gate, filter, cursor))

    def release(self, tail: Tail) -> None:
        """Drop the tail if nobody watches it."""
        if not tail.watched and self._tails.get(tail.tenant_id) is tail:
            del self._tails[tail.tenant_id]
            tail.close()

    def enter(self, stream: Closable) -> None:
        """A stream opens.

        Raises:
            Draining: no new ones any more.
        """
        if self.draining:
            message = "the server is shutting down; connect again"
            raise Draining(message, retry_after_s=0.1)
        self._streams.add(stream)

    def leave(self, stream: Closable) -> None:
        """A stream has ended."""
        self._streams.discard(stream)

    def drain(self) -> None:
        """End every stream and refuse new ones."""
        self.draining = True
        for stream in list(self._streams):
            stream.close(ClosingReason.DRAINING)

    def close(self) -> None:
        """Drop every tail."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    async def poll(self) -> None:
        """Read on, forever, wherever the stores have more than a ring: right without any push, only later."""
        while True:
            await asyncio.sleep(POLL_S)
            if not self._tails:
                continue
            try:
                latest = await self.log.latest_of(list(self._tails))
            except CoherenceError:
                # A store is down; streams live on bookmarks until it is back.
                continue
            for tenant_id, cursor in latest.items():
                tail = self._tails.get(tenant_id)
                if tail is not None and tail.behind(cursor):
                    tail.want()
