"""A reader: one position in a tenant's events, moved on through the log or along the ring."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coherence_grpc.events.frames import Gap
from coherence_grpc.events.log import Feed
from coherence_grpc.events.ring import Ring

if TYPE_CHECKING:
    from coherence_grpc.events.frames import Batch, EventFilter
    from coherence_grpc.events.gate import Gate
    from coherence_grpc.events.log import Log
    from coherence_grpc.events.tail import Tail
    from coherence_grpc.tokens import Cursor


class Reader:
    """Takes frames from `cursor` on: up to there everything was returned, or filtered out.

    Below the ring it reads the log page by page, to the first place in the ring that is nowhere behind its own; from
    there it goes by index. A reader that falls below the ring again goes back to the log.
    """

    def __init__(self, log: Log, tail: Tail, gate: Gate, filter: EventFilter, cursor: Cursor) -> None:  # noqa: A002 - the contract's word
        self.cursor = cursor
        self._log = log
        self._tail = tail
        self._gate = gate
        self._filter = filter
        self._index: int | None = None
        self._feed: Feed | None = None
        self._page = Ring(cursor, capacity=None)
        self._at = 0
        self._gap: Gap | None = None
        self._stalled_at = -1

    @property
    def ready(self) -> bool:
        """There is more to look at."""
        if self._index is None:
            return self._stalled_at != self._tail.ring.end
        return self._index < self._gate.shown

    @property
    def joined(self) -> bool:
        """It goes along the ring."""
        return self._index is not None

    async def advance(self, limit: int) -> Batch | Gap | None:
        """Look at the next stretch: the frame made of it, None when nothing in it is to be sent yet.

        Reads at most two pages of the log.
        """
        if self._index is not None:
            return self._follow(self._index, limit)
        return await self._replay(limit)

    def take_gap(self) -> Gap | None:
        """The gap that was read so far, though it may go on."""
        gap, self._gap = self._gap, None
        if gap is not None:
            self.cursor = gap.cursor
        return gap

    def _follow(self, index: int, limit: int) -> Batch | Gap | None:
        ring, shown = self._tail.ring, self._gate.shown
        if index < ring.start:
            self._index = None
            self._page, self._at = Ring(self.cursor, capacity=None), 0
            return None
        piece = ring.cut(index, shown, self._filter, limit)
        self._index, self.cursor = piece.end, piece.cursor
        return piece.frame

    async def _replay(self, limit: int) -> Batch | Gap | None:
        if self._at == self._page.end and not await self._turn():
            return self.take_gap()
        if self._gap is not None and not self._page.opens_with_gap(self._at):
            return self.take_gap()
        piece = self._page.cut(self._at, self._page.end, self._filter, limit)
        self._at = piece.end
        if isinstance(piece.frame, Gap):
            # Sent when it is known to end: the next page may go on with it.
            first = piece.frame if self._gap is None else self._gap
            self._gap = piece.frame._replace(from_seq=first.from_seq)
            return None
        self.cursor = piece.cursor
        return piece.frame

    async def _turn(self) -> bool:
        """Read the next page; False when the reader has joined the ring, or the ring is behind it."""
        position = self._page.tip
        ring = self._tail.ring
        index = ring.locate(position)
        if index is None:
            self._stalled_at = ring.end
            self._tail.want()
            return False
        target = ring.cursor_at(index)
        if (target.seq, target.version) == (position.seq, position.version):
            self._index, self._feed = index, None
            return False
        if self._feed is None:
            self._feed = Feed(self._log, self._tail.tenant_id, position, with_entries=self._filter.entries)
        page = await self._tail.pages.turn(self._feed, target)
        # Pages that are there already are had without ever giving up the loop.
        await asyncio.sleep(0)
        self._page, self._feed, self._at = page.ring, page.feed, 0
        return True
