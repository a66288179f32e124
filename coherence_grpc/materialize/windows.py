"""The tenants in memory: loaded when first needed, kept exact by what is committed, let go when idle."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from coherence_grpc.deadline import unhurried
from coherence_grpc.materialize.course import Course
from coherence_grpc.materialize.live import Live
from coherence_grpc.materialize.sweep import window_over
from coherence_grpc.model import DAY, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from coherence_grpc.materialize.sweep import AnyWindow
    from coherence_grpc.model import Appended, Score
    from coherence_grpc.policy import PolicyVersion, ScorePolicy
    from coherence_grpc.ports import Clock, ScoreStore, SignalStore, WindowColumns

IDLE_S: Final = 600.0
TAIL_PAGE: Final = 1000
# Summing up a larger window takes over a millisecond: then a thread does it.
LARGE: Final = 20_000
LARGE_RULED: Final = 1_000
# How far back it is found out what is held when no row says: by then almost every score has moved clear of a threshold.
LOOKBACK: Final = 7 * DAY


class _Tenant:
    """A tenant's window or its loading; `backlog` is what was committed here meanwhile, `due` the entry to come to."""

    __slots__ = ("backlog", "due", "live", "loading", "used_at")

    def __init__(self) -> None:
        self.live: Live | None = None
        self.loading: asyncio.Task[Live] | None = None
        self.backlog: deque[Appended] = deque()
        self.due = 0
        self.used_at = monotonic()


class Windows:
    """Every loaded tenant. What is committed must be handed to `appended` in the order of the log."""

    def __init__(self, signals: SignalStore, scores: ScoreStore, clock: Clock) -> None:
        self._signals = signals
        self._scores = scores
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}

    def appended(self, appended: Appended) -> None:
        """Applies a commit to its tenant's window, if that is loaded or being loaded."""
        tenant = self._tenants.get(appended.write.tenant_id)
        if tenant is None:
            return
        tenant.used_at = monotonic()
        if tenant.loading is not None:
            tenant.backlog.append(appended)
        elif tenant.live is not None and not _applied(tenant.live, appended):
            # The server's own entries, such as PRUNED, are not announced: the log has what is missing.
            tenant.backlog.append(appended)
            tenant.loading = self._start(appended.write.tenant_id, tenant)

    def peek(self, tenant_id: str) -> Live | None:
        """The tenant if it is loaded and up to date."""
        tenant = self._tenants.get(tenant_id)
        return None if tenant is None or tenant.loading is not None else tenant.live

    def get_now(self, tenant_id: str) -> Live | None:
        """As `peek`, for a reader: what is read is not idle."""
        live = self.peek(tenant_id)
        if live is not None:
            self._tenants[tenant_id].used_at = monotonic()
        return live

    def load(self, tenant_id: str) -> asyncio.Task[Live]:
        """The loading of the tenant; starts it when none is under way."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = _Tenant()
        tenant.loading = tenant.loading or self._start(tenant_id, tenant)
        return tenant.loading

    async def get(self, tenant_id: str) -> Live:
        """The tenant, loaded and up to date with every commit before the call."""
        live = self.get_now(tenant_id)
        if live is None:
            # Others wait for the same loading: a cancelled reader leaves it alone.
            return await asyncio.shield(self.load(tenant_id))
        return live

    async def catch_up(self, tenant_id: str, seq: int) -> Live:
        """The tenant, up to date at least with entry `seq`, which must be in the log."""
        live = await self.get(tenant_id)
        if live.seq >= seq:
            return live
        tenant = self._tenants.get(tenant_id)
        if tenant is None or tenant.live is not live:
            return await self.get(tenant_id)
        tenant.due = max(tenant.due, seq)
        tenant.loading = tenant.loading or self._start(tenant_id, tenant)
        return await asyncio.shield(tenant.loading)

    def follow(self, tenant_id: str, seq: int) -> None:
        """Brings the tenant up to entry `seq`, which must be in the log, if it is behind, loaded or being loaded."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return
        if tenant.loading is not None:
            # What it reads may be older than the news, and nobody brings them again.
            tenant.due = max(tenant.due, seq)
        elif tenant.live is not None and tenant.live.seq < seq:
            tenant.due = seq
            tenant.loading = self._start(tenant_id, tenant)

    def drop(self, tenant_id: str) -> None:
        """Lets go of the tenant: the next one to need it loads it anew."""
        self._tenants.pop(tenant_id, None)

    def evict(self, keep: Container[str]) -> None:
        """Lets go of the tenants that had neither signals nor reads for ten minutes, except those to keep."""
        limit = monotonic() - IDLE_S
        idle = [
            tenant_id
            for tenant_id, tenant in self._tenants.items()
            if tenant.used_at < limit and tenant.loading is None and tenant_id not in keep
        ]
        for tenant_id in idle:
            del self._tenants[tenant_id]

    async def aclose(self) -> None:
        """Ends what is still loading."""
        loading = [tenant.loading for tenant in self._tenants.values() if tenant.loading is not None]
        self._tenants.clear()
        for task in loading:
            task.cancel()
        if loading:
            await asyncio.wait(loading)

    def _start(self, tenant_id: str, tenant: _Tenant) -> asyncio.Task[Live]:
        task = asyncio.create_task(self._load(tenant_id, tenant), name=f"load {tenant_id}", context=unhurried())
        # Who started it may be gone when it fails; whoever needs the tenant next loads it again.
        task.add_done_callback(_retrieve)
        return task

    async def _load(self, tenant_id: str, tenant: _Tenant) -> Live:
        live, tenant.live = tenant.live, None
        try:
            live = live or await self._read(tenant_id)
            while tenant.backlog or live.outdated or live.seq < tenant.due:
                if live.outdated:
                    await self._renew(live)
                elif tenant.backlog and live.apply(tenant.backlog[0]):
                    tenant.backlog.popleft()
                else:
                    await self._follow(live)
            # From the check above to here nothing was awaited, so that no commit is missed.
            tenant.live = live
        finally:
            tenant.loading = None
            tenant.backlog.clear()
            tenant.due = 0
        if not live.seq and live.row is None and self._tenants.get(tenant_id) is tenant:
            # Nobody has heard of this tenant: reading it must not fill the memory.
            del self._tenants[tenant_id]
        return live

    async def _follow(self, live: Live) -> None:
        entries = await self._signals.tail(live.tenant_id, after=live.seq, limit=TAIL_PAGE)
        if not entries:
            message = f"the log of tenant {live.tenant_id} ends at entry {live.seq}, before one that was committed"
            raise RuntimeError(message)
        live.apply_entries(entries)

    async def _renew(self, live: Live) -> None:
        version, columns = await self._columns(live.tenant_id, lambda _: live.now)
        window, _ = await _built(columns, version.policy, live.now, live.now, live.held)
        live.renew(window, columns.head, version)

    async def _read(self, tenant_id: str) -> Live:
        row = (await self._scores.get((tenant_id,))).get(tenant_id)
        now = max(self._clock.now(), 0 if row is None else row.window_end)
        version, columns = await self._columns(tenant_id, lambda policy: _swept_from(policy, now, row))
        start = _swept_from(version.policy, now, row)
        held = None if row is None else row.held or Held(row.status, None)
        window, held = await _built(columns, version.policy, start, now, held)
        return Live(tenant_id, window, columns.head, row, version, held)

    async def _columns(
        self, tenant_id: str, begin: Callable[[ScorePolicy], int]
    ) -> tuple[PolicyVersion, WindowColumns]:
        """The policy in force and the signals of its window at the instant `begin` and after, both of one head."""
        version = await self._signals.policy(tenant_id)
        while True:
            policy = version.policy
            start = begin(policy) - policy.window_us
            columns = await self._signals.window(tenant_id, start=start, grouped=not policy.plain)
            current = await self._signals.policy(tenant_id, at=columns.head.seq)
            if current.seq == version.seq:
                return version, columns
            version = current


async def _built(
    columns: WindowColumns, policy: ScorePolicy, start: int, now: int, held: Held | None
) -> tuple[AnyWindow, Held | None]:
    """The window as of `now`, and what is held then, having been `held` at `start`."""
    large = LARGE if policy.plain else LARGE_RULED
    if len(columns.ts) < large:
        return _build(columns, policy, start, now, held)
    return await asyncio.to_thread(_build, columns, policy, start, now, held)


def _build(
    columns: WindowColumns, policy: ScorePolicy, start: int, now: int, held: Held | None
) -> tuple[AnyWindow, Held | None]:
    if start < now:
        held = Course(columns, policy, start=start, end=now, held=held).finished().held
    return window_over(columns, policy, now), held


def _swept_from(policy: ScorePolicy, now: int, row: Score | None) -> int:
    """From where on what is held has to be found out: what time did while nobody looked."""
    if not policy.remembers:
        return now
    lookback = now - LOOKBACK
    return lookback if row is None else max(lookback, row.window_end)


def _applied(live: Live, appended: Appended) -> bool:
    return live.apply(appended) and not live.outdated


def _retrieve(task: asyncio.Task[Live]) -> None:
    if not task.cancelled():
        task.exception()
