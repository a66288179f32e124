"""A watch: the scores of several tenants as they are published, as one async iterator."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from coherence_grpc.errors import Draining, SubscriberLagged
from coherence_grpc.events.frames import SCORE_KINDS, Batch, ClosingReason, EventFilter, EventKind
from coherence_grpc.events.stream import Stream
from coherence_grpc.model import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence_grpc.events.reader import Reader
    from coherence_grpc.events.tails import Stand, Tails

_UPDATES = EventFilter(kinds=SCORE_KINDS)
_CHANGES = EventFilter(kinds=frozenset({EventKind.SCORE_STATUS_CHANGED}))
# Scores that are read ahead of the consumer: what comes meanwhile supersedes what was not read yet.
_AHEAD = 100


class _Post:
    """Notes that a tenant of the watch has news."""

    __slots__ = ("_watch", "stand")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.stand: Stand | None = None

    def wake(self, turn: int) -> bool:  # noqa: ARG002 - many gates wake one watch, so it answers none of them
        self._watch.note(self)
        return False


class Watch(Stream[Score]):
    """Scores published after the watch was opened, each tenant's in order of versions.

    Latest wins for a tenant, a status change is never skipped. The iterator ends by Draining, or by SubscriberLagged.
    """

    def __init__(
        self,
        tails: Tails,
        tenant_ids: Sequence[str],
        *,
        status_changes_only: bool,
        coalesce_s: float,
        lag_s: float,
        on_lagged: Callable[[], None] | None,
    ) -> None:
        super().__init__(tails, lag_s=lag_s)
        self._tenant_ids = tenant_ids
        self._filter = _CHANGES if status_changes_only else _UPDATES
        self._coalesce_s = coalesce_s
        self._on_lagged = on_lagged
        self._posts: list[_Post] = []
        self._news: dict[_Post, None] = {}
        self._read: deque[Score] = deque()

    async def open(self) -> None:
        """Take the positions: what is published from here on is sent. Read the current scores after this."""
        await self._open()
        self._hand_over()

    async def _open(self) -> None:
        if self._posts:
            return
        self._enter()
        newest = await self._tails.log.latest_of(self._tenant_ids)
        for tenant_id, cursor in newest.items():
            post = _Post(self)
            post.stand = self._tails.stand(tenant_id, post, self._filter, cursor, coalesce_s=self._coalesce_s)
            self._posts.append(post)
            self._news[post] = None

    def note(self, post: _Post) -> None:
        """A tenant has news."""
        self._news[post] = None
        self._rouse()

    async def _next(self) -> Score:
        await self._open()
        while self._closing is None:
            if self._read:
                return self._read.popleft()
            if self._news:
                await self._look(next(iter(self._news)))
            else:
                await self._sleep()
        raise self._reason(self._closing)

    async def _look(self, post: _Post) -> None:
        del self._news[post]
        if post.stand is None:
            return
        reader: Reader = post.stand.reader
        frame = await reader.advance(_AHEAD) if reader.ready else None
        if isinstance(frame, Batch):
            self._read.extend(event.score for event in frame.events if event.score is not None)
        if reader.ready:
            self._news[post] = None

    def _reason(self, closing: ClosingReason) -> Draining | SubscriberLagged:
        if closing is ClosingReason.LAGGED:
            message = "no score was taken for too long; watch again: the current scores come first"
            return SubscriberLagged(message, retry_after_s=1.0)
        if closing is ClosingReason.MAX_AGE:
            return Draining("the stream has reached its maximum age; watch again", retry_after_s=0.1)
        return Draining("the server is shutting down; watch again", retry_after_s=0.1)

    def _leave(self) -> None:
        for post in self._posts:
            if post.stand is not None:
                post.stand.leave()
                post.stand = None
        self._news.clear()
        self._read.clear()

    def _lagged(self) -> None:
        if self._on_lagged is not None:
            self._on_lagged()
