"""The tail: keeps a watched tenant's ring at the end of its log, from pushes or by reading."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from coherence_grpc.deadline import unhurried
from coherence_grpc.errors import CoherenceError
from coherence_grpc.events.gate import Gate, window
from coherence_grpc.events.log import Feed
from coherence_grpc.events.pages import Pages
from coherence_grpc.events.ring import CAPACITY, Ring, has_pruning, has_score
from coherence_grpc.events.runs import Scored, Signals, after_version
from coherence_grpc.model import Appended, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.events.gate import Listener
    from coherence_grpc.events.log import Log
    from coherence_grpc.events.runs import Run
    from coherence_grpc.ports import News
    from coherence_grpc.tokens import Cursor

# Rings are heeded at once on a quiet tail, and on a busy one so often: each costs a look into both stores.
HEED_S: Final = 0.05
# So many commits may wait for the loop; each may hold a thousand signals.
_PUSHES: Final = 256

_log = logging.getLogger(__name__)


class Tail:
    """One tenant's ring and the gates in front of it."""

    def __init__(
        self, tenant_id: str, base: Cursor, log: Log, group: asyncio.TaskGroup, *, capacity: int = CAPACITY
    ) -> None:
        self.tenant_id = tenant_id
        self.ring = Ring(base, capacity=capacity)
        self.pages = Pages(lambda read: group.create_task(read, context=unhurried()))
        self._log = log
        self._group = group
        self._gates: dict[tuple[float, bool], Gate] = {}
        self._pushed: deque[Appended | Score] = deque()
        self._scheduled = False
        self._wanted = False
        self._reading: asyncio.Task[None] | None = None
        # What rings told of, and whether one told nothing: then anything may have happened.
        self._told = (0, 0)
        self._doubt = False
        self._heeding: asyncio.TimerHandle | None = None
        self._heed_at = 0.0

    @property
    def watched(self) -> bool:
        """Somebody stands behind one of its gates."""
        return bool(self._gates)

    def join(self, listener: Listener, *, coalesce_s: float, entries: bool) -> Gate:
        """The gate that wakes the listener; without `entries` only when there are scores."""
        key = (window(coalesce_s), entries)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(self.ring, key[0])
        gate.members.add(listener)
        return gate

    def leave(self, listener: Listener) -> None:
        """Wake the listener no more."""
        for key, gate in list(self._gates.items()):
            gate.members.discard(listener)
            if not gate.members:
                gate.close()
                del self._gates[key]

    def push(self, news: Appended | Score) -> None:
        """Something was committed; it enters the ring soon, and never on the committer's time."""
        if len(self._pushed) >= _PUSHES:
            # The loop is not getting to it: the log has it all.
            self._pushed.clear()
            self._wanted = True
        self._pushed.append(news)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._absorb)

    def rung(self, news: News) -> None:
        """Some process says what it stored or published; when it was this one, that is pushed as well."""
        seq, version = self._told
        self._told = max(seq, news.to_seq), max(version, news.version)
        self._doubt = self._doubt or not (news.to_seq or news.version)
        if self._heeding is None:
            # Later than what was pushed before.
            loop = asyncio.get_running_loop()
            self._heeding = loop.call_at(max(self._heed_at, loop.time()), self._heed)

    def _heed(self) -> None:
        self._heeding = None
        tip = self.ring.tip
        if self._doubt or self._told[0] > tip.seq or self._told[1] > tip.version:
            self._doubt = False
            self._heed_at = asyncio.get_running_loop().time() + HEED_S
            self.want()

    def want(self) -> None:
        """Read the log up to its end, once a reading that goes on is over."""
        self._wanted = True
        if self._reading is None:
            self._reading = self._group.create_task(self._read(), context=unhurried())

    def behind(self, latest: Cursor) -> bool:
        """The stores have more than the ring."""
        tip = self.ring.tip
        return latest.seq > tip.seq or latest.version > tip.version

    def close(self) -> None:
        """Stop reading and let nobody wait on a timer."""
        if self._heeding is not None:
            self._heeding.cancel()
        if self._reading is not None:
            self._reading.cancel()
        for gate in self._gates.values():
            gate.close()

    def _absorb(self) -> None:
        self._scheduled = False
        if self._reading is not None:
            # What is being read may hold it already; looked at again when the reading is over.
            return
        runs: list[Run] = []
        tip = self.ring.tip
        while self._pushed:
            news = self._pushed.popleft()
            if _known(tip, news):
                continue
            run = _continuation(tip, news)
            if run is None:
                self._pushed.clear()
                self._wanted = True
                break
            runs.append(run)
            tip = run.after
        self._extend(runs)
        if self._wanted and self.watched:
            self.want()

    def _extend(self, runs: Sequence[Run]) -> None:
        if not runs:
            return
        self.ring.extend(runs)
        if has_pruning(runs):
            # What was erased from the log must not be sent from memory: readers are sent to the log.
            self.ring.forget()
            self.pages.forget()
        scored = has_score(runs)
        for (_, entries), gate in list(self._gates.items()):
            if entries or scored:
                gate.poke()

    async def _read(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._read_on()
        except CoherenceError:
            # A store is down: readers keep what they have, and the next poll tries again.
            self._wanted = False
        except Exception:  # noqa: BLE001 - logged; one tenant's fault must not end the streams of all the others
            _log.exception("reading the log of tenant %s failed", self.tenant_id)
            self._wanted = False
        finally:
            self._reading = None
        self._absorb()

    async def _read_on(self) -> None:
        target = await self._log.latest(self.tenant_id)
        feed = Feed(self._log, self.tenant_id, self.ring.tip, with_entries=True)
        while self.behind(target):
            self._extend(await feed.read(target))


def _known(tip: Cursor, news: Appended | Score) -> bool:
    if isinstance(news, Appended):
        return news.first_seq + len(news.stored) <= tip.seq + 1
    return news.version <= tip.version


def _continuation(tip: Cursor, news: Appended | Score) -> Run | None:
    """The news as a run; None when something between it and the tip is missing."""
    if isinstance(news, Appended):
        return Signals(tip, news) if news.first_seq == tip.seq + 1 else None
    expected = (tip.signal_epoch, tip.score_epoch, tip.version + 1)
    if (news.signal_epoch, news.score_epoch, news.version) != expected or news.as_of_seq > tip.seq:
        return None
    return Scored(tip, after_version(tip, news.version), news)
