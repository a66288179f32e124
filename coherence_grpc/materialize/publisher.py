"""Publication: what was touched by a signal or by time gets its row, at most every 100 ms a tenant."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import Flag, auto
from heapq import heappop, heappush
from itertools import islice
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import CoherenceError
from coherence_grpc.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from coherence_grpc.materialize.live import Live
    from coherence_grpc.materialize.windows import Windows
    from coherence_grpc.model import Score
    from coherence_grpc.ports import Clock, ScoreStore, ShardLeases, SignalStore

TICK_S: Final = 0.1
HOLD_S: Final = 0.1
# A pause after each round: what happens meanwhile shares the next transaction. Four times what publishing took, but a
# server that is slow, as it is with the first statements of a process, must not make rows late as well.
PAUSE_S: Final = 0.005
PAUSE_SHARE: Final = 4
LONGEST_PAUSE_S: Final = 0.25
BACK_OFF_S: Final = 1.0
BATCH: Final = 256
LOADS: Final = 4
FLUSH_S: Final = 2.0
HOUSEKEEPING_S: Final = 60.0
THIN_LIMIT: Final = 1000

_log = logging.getLogger(__name__)


class Moved(Flag):
    """What came to a tenant since its last publication, as far as it was told."""

    NOTHING = 0
    BACKFILL = auto()
    LIVE = auto()


class Publisher:
    """Brings rows up to date. `touch` says that a tenant's may be behind; time is watched in the store's index."""

    def __init__(
        self,
        signals: SignalStore,
        scores: ScoreStore,
        clock: Clock,
        windows: Windows,
        leases: ShardLeases,
        *,
        enabled: Callable[[], bool],
        on_written: Callable[[Score], None],
        on_published: Sequence[Callable[[Score], None]],
    ) -> None:
        self._signals = signals
        self._scores = scores
        self._clock = clock
        self._windows = windows
        self._leases = leases
        leases.listen(self._lease_changed)
        self._enabled = enabled
        self._on_written = on_written
        self._on_published = tuple(on_published)
        self._behind: dict[str, Moved] = {}
        self._touched: dict[str, None] = {}
        self._held: list[tuple[float, str]] = []
        self._holding: set[str] = set()
        self._loading: set[str] = set()
        self._parked: dict[str, None] = {}
        self._next_due: float = 0
        self._next_sweep = 0.0
        self._next_housekeeping = monotonic() + HOUSEKEEPING_S
        self._recovered = False
        self._lease_changes = 0
        self._failing = False
        self._closing = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def running(self) -> bool:
        """Rows are being kept up to date, what happened before the start included."""
        return self._recovered and not self._failing and self._enabled()

    def touch(self, tenant_id: str, moved: Moved = Moved.NOTHING) -> None:
        """The tenant's row may be behind; another process brings it up to date where that holds the tenant's shard."""
        if not self._leases.holds(tenant_id):
            return
        self._behind[tenant_id] = self._behind.get(tenant_id, Moved.NOTHING) | moved
        self._touched[tenant_id] = None
        self._news.set()

    def _lease_changed(self) -> None:
        # Who held the shard before may have left rows behind their log.
        self._lease_changes += 1
        self._recovered = False
        self._next_due = 0
        self._news.set()

    def close(self) -> None:
        """Makes `run` publish what is behind and return."""
        self._closing.set()
        self._news.set()

    async def run(self) -> None:
        """Publishes until closed; a store that fails is asked again."""
        while not self._closing.is_set():
            pause = PAUSE_S
            try:
                busy_s = await self._round()
                pause = min(max(PAUSE_S, PAUSE_SHARE * busy_s), LONGEST_PAUSE_S)
                self._failing = False
            except Exception as error:  # noqa: BLE001 - logged and tried again: scores must not stop for good
                self._touched.update(dict.fromkeys(self._behind))
                pause = BACK_OFF_S
                if not self._failing:
                    _log.warning("publishing scores failed, trying again every second: %s", error, exc_info=_bug(error))
                self._failing = True
            await self._rest(pause)
        await self._flush()

    async def _rest(self, pause: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._closing.wait()
        until_held = self._held[0][0] - monotonic() if self._held else TICK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(TICK_S, until_held))):
                await self._news.wait()
        self._news.clear()

    async def _round(self) -> float:
        """Seconds that publishing took, of what is not done once."""
        if not self._enabled():
            return 0.0
        if not self._recovered:
            await self._recover()
        machine_now = monotonic()
        await self._sweep(machine_now)
        candidates, self._touched = list(self._touched), {}
        while self._held and self._held[0][0] <= machine_now:
            tenant_id = heappop(self._held)[1]
            self._holding.discard(tenant_id)
            candidates.append(tenant_id)
        begun = monotonic()
        await self._consider(candidates)
        busy_s = monotonic() - begun
        if machine_now >= self._next_housekeeping:
            await self._keep_house(machine_now)
        return busy_s

    async def _consider(self, candidates: Iterable[str]) -> None:
        rest = iter(candidates)
        # In batches, so that thousands of tenants don't hold up the event loop.
        while batch := list(islice(rest, BATCH)):
            ready = self._ready(batch)
            if ready:
                await self._publish(ready)
            else:
                await asyncio.sleep(0)

    def _ready(self, tenant_ids: Iterable[str]) -> list[Live]:
        ready: dict[str, Live] = {}
        machine_now, now = monotonic(), self._clock.now()
        for tenant_id in tenant_ids:
            if tenant_id not in self._behind:
                continue
            if not self._leases.holds(tenant_id):
                # Whoever holds it now looks at it anew.
                del self._behind[tenant_id]
                continue
            live = self._windows.peek(tenant_id)
            if live is None:
                self._load_soon(tenant_id)
            elif live.hold_until <= machine_now or live.status_moved(now):
                ready[tenant_id] = live
            elif tenant_id not in self._holding:
                self._holding.add(tenant_id)
                heappush(self._held, (live.hold_until, tenant_id))
        return list(ready.values())

    async def _publish(self, lives: Sequence[Live]) -> None:
        await self._read_rows([live for live in lives if not live.row_known])
        due: list[tuple[Live, Moved, Score]] = []
        for live in lives:
            moved = self._behind.pop(live.tenant_id)
            score = live.evaluate(self._clock.now(), self._scores.epoch)
            row = live.publication(score, backfill=moved is Moved.BACKFILL)
            if row is not None:
                due.append((live, moved, row))
        if not due:
            return
        try:
            failpoint("publish.before")
            won = await self._scores.publish([row for _, _, row in due])
            failpoint("publish.after")
        except BaseException:
            for live, moved, _ in due:
                live.row_known = False
                self.touch(live.tenant_id, moved)
            raise
        for (live, _, row), in_place in zip(due, won, strict=True):
            if in_place:
                self._published(live, row)
            else:
                self._lost(live)

    async def _read_rows(self, lives: Sequence[Live]) -> None:
        if lives:
            rows = await self._scores.get([live.tenant_id for live in lives])
            for live in lives:
                live.row, live.row_known = rows.get(live.tenant_id), True

    def _published(self, live: Live, row: Score) -> None:
        news = live.row is None or live.row.version < row.version
        live.row = row
        live.hold_until = monotonic() + HOLD_S
        self._on_written(row)
        if row.valid_until is not None:
            self._next_due = min(self._next_due, row.valid_until)
        if not news:
            return
        self._signals.note_published(row)
        for notify in self._on_published:
            try:
                notify(row)
            except Exception:  # noqa: BLE001 - logged; the row stands, and history has it
                _log.exception("announcing version %d of tenant %s failed", row.version, row.tenant_id)

    def _lost(self, live: Live) -> None:
        # Somebody else's row is newer: stay silent, and look again at what is there.
        self._windows.drop(live.tenant_id)
        asyncio.get_running_loop().call_later(HOLD_S, self.touch, live.tenant_id)

    def _load_soon(self, tenant_id: str) -> None:
        if tenant_id in self._loading:
            return
        if len(self._loading) >= LOADS:
            self._parked[tenant_id] = None
            return
        self._loading.add(tenant_id)
        self._windows.load(tenant_id).add_done_callback(lambda task: self._loaded(tenant_id, task))

    def _loaded(self, tenant_id: str, task: asyncio.Task[Live]) -> None:
        self._loading.discard(tenant_id)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.touch(tenant_id)
        else:
            _log.warning("loading tenant %s failed, trying again in a second: %s", tenant_id, error)
            task.get_loop().call_later(BACK_OFF_S, self.touch, tenant_id)
        if self._parked:
            parked = next(iter(self._parked))
            del self._parked[parked]
            self.touch(parked)

    async def _sweep(self, machine_now: float) -> None:
        now = self._clock.now()
        if machine_now < self._next_sweep or now < self._next_due:
            return
        shards, changes = self._leases.shards, self._lease_changes
        due = await self._scores.due(before=now, limit=BATCH, shards=shards)
        for tenant_id in due:
            self.touch(tenant_id)
        if len(due) < BATCH and changes == self._lease_changes:
            self._next_sweep = machine_now + TICK_S
            # Rows published while the store answers lower it.
            self._next_due = inf
            next_due = await self._scores.next_due(shards=shards)
            if next_due is not None:
                self._next_due = min(self._next_due, next_due)

    async def _recover(self) -> None:
        """Touches the tenants whose row is behind their log: a crash may have come between commit and publication."""
        changes = self._lease_changes
        tenant_ids = iter([name for name in await self._signals.tenants() if self._leases.holds(name)])
        while batch := list(islice(tenant_ids, BATCH)):
            heads = await self._signals.heads(batch)
            rows = await self._scores.get(batch)
            for tenant_id, head in heads.items():
                row = rows.get(tenant_id)
                if row is None or (row.signal_epoch, row.as_of_seq, row.head_hash) != head:
                    self.touch(tenant_id)
        self._recovered = changes == self._lease_changes

    async def _keep_house(self, machine_now: float) -> None:
        self._windows.evict(self._behind)
        dropped = await self._scores.thin(now=self._clock.now(), limit=THIN_LIMIT)
        self._next_housekeeping = machine_now + (HOUSEKEEPING_S if dropped < THIN_LIMIT else BACK_OFF_S)

    async def _flush(self) -> None:
        lives = [live for tenant_id in self._behind if (live := self._windows.peek(tenant_id)) is not None]
        if not lives or not self.running:
            return
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._publish(lives)
        except (CoherenceError, TimeoutError) as error:
            _log.warning("the last scores were not published, the next start catches up: %s", error)


def _bug(error: Exception) -> Exception | None:
    return None if isinstance(error, CoherenceError) else error
