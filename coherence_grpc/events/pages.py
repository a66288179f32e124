"""Pages of the log, read once for all readers that want the same: after a restart a thousand resume at one place."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from coherence_grpc.errors import CoherenceError, StoreDown
from coherence_grpc.events.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from coherence_grpc.events.log import Feed
    from coherence_grpc.tokens import Cursor

_KEPT: Final = 4
_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """A stretch below the ring, and the feed that goes on after it."""

    ring: Ring
    feed: Feed


_Read: TypeAlias = "asyncio.Task[Page | CoherenceError]"
Begin: TypeAlias = "Callable[[Coroutine[None, None, Page | CoherenceError]], _Read]"


class Pages:
    """The last few pages of one tenant."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._reads: dict[tuple[Cursor, int, int, bool], _Read] = {}

    async def turn(self, feed: Feed, target: Cursor) -> Page:
        """The page after the feed's position, with nothing beyond the target; the feed is left as it is."""
        key = (feed.position, target.seq, target.version, feed.with_entries)
        read = self._reads.get(key)
        if read is None:
            if len(self._reads) >= _KEPT:
                del self._reads[next(iter(self._reads))]
            read = self._reads[key] = self._begin(_read(feed.copy(), target))
        # A reader that leaves doesn't take the page from the others.
        page = await asyncio.shield(read)
        if isinstance(page, CoherenceError):
            self._reads.pop(key, None)
            # One for each reader: whoever passes it on adds where that reader stood.
            raise type(page)(page.message, metadata=page.metadata, retry_after_s=page.retry_after_s) from page
        if not page.ring.end:
            # Nothing there yet, which may be otherwise the next time.
            self._reads.pop(key, None)
        return page

    def forget(self) -> None:
        """Drop them."""
        self._reads.clear()


async def _read(feed: Feed, target: Cursor) -> Page | CoherenceError:
    ring = Ring(feed.position, capacity=None)
    try:
        ring.extend(await feed.read(target))
    except CoherenceError as error:
        # Told to each reader; the others of the hub are not concerned.
        return error
    except Exception:  # noqa: BLE001 - logged; one tenant's fault must not end the streams of all the others
        _log.exception("reading a page of the log failed")
        return StoreDown("the log can't be read here, the server's log says why; resume later from your cursor")
    return Page(ring, feed)
