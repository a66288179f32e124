"""The backbone: stores, use cases and servicers, wired once."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from coherence.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server
from coherence.v1.events_pb2_grpc import add_EventsServiceServicer_to_server
from coherence.v1.ingest_pb2_grpc import add_IngestServiceServicer_to_server
from coherence.v1.meta_pb2_grpc import add_MetaServiceServicer_to_server
from coherence.v1.score_pb2_grpc import add_ScoreServiceServicer_to_server
from coherence_grpc.adapters.embedded import (
    load_signer,
    lock_directory,
    open_clock,
    wall_us,
)
from coherence_grpc.adapters.local import CarriedGrants
from coherence_grpc.app.announcing import Announcer
from coherence_grpc.app.listening import answering, bind
from coherence_grpc.app.stores import open_stores
from coherence_grpc.config import Runtime
from coherence_grpc.convert.server import Facts, Limits, Part
from coherence_grpc.errors import CoherenceError
from coherence_grpc.events import Hub
from coherence_grpc.failpoints import skewed
from coherence_grpc.ingest import Ingest, Marked, Records, Streams
from coherence_grpc.ingest.identifiers import Uuid7
from coherence_grpc.interceptors import MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, POOLS, Registry, local, pools
from coherence_grpc.materialize import (
    Explanations,
    Follower,
    History,
    Materializer,
    Policies,
    Portfolio,
    PublishedScores,
    RecomputedHistory,
    ScoredWrites,
    Scores,
    Simulation,
    Sweeps,
)
from coherence_grpc.servicers import (
    AdminServicer,
    Cursors,
    EventsServicer,
    HistoryAnswers,
    IngestServicer,
    MetaServicer,
    PolicyAnswers,
    ScoreServicer,
    Server,
    SignalStreams,
    SimulationAnswers,
    UnchangedScores,
)
from coherence_grpc.tokens import Key, Signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping

    from coherence_grpc.app.stores import Stores
    from coherence_grpc.config import Settings
    from coherence_grpc.ports import Clock, ScoreStore, SignalStore

CAPABILITIES: Final = (
    "as_of",
    "backfill",
    "explain",
    "history",
    "policies",
    "portfolio",
    "prune",
    "pull_events",
    "replace",
    "scored",
    "recompute",
    "simulate",
    "stream_signals",
    "subscribe",
    "validate_only",
    "verify_ledger",
    "watch",
)
INGEST: Final = "coherence.v1.IngestService"
# No tenant can have this id.
NOBODY: Final = "-"
MAX_BATCH_SIGNALS: Final = 1000
MAX_BATCH_TENANTS: Final = 100
MAX_TS_AHEAD_S: Final = 300.0
MAX_DEADLINE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Backbone:
    """A serving backbone; `metrics_address` is '' without a page of metrics."""

    grpc_address: str
    metrics_address: str
    clock: Clock
    runtime: Runtime
    info: Server


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the servicers are made of."""

    clock: Clock
    signals: SignalStore
    scores: ScoreStore
    signer: Signer
    authoriser: CarriedGrants
    hub: Hub
    unchanged: UnchangedScores
    reader: Scores
    explanations: Explanations
    portfolio: Portfolio
    ingest: Ingest
    streams: Streams
    policies: Policies
    stores: Stores
    materializer: Materializer
    follower: Follower | None

    def drain(self) -> None:
        """End every stream with where to go on."""
        self.streams.drain()
        self.hub.drain()


@asynccontextmanager
async def open_backbone(
    settings: Settings,
    *,
    clock: Clock | None = None,
    on_bound: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Backbone]:
    """A serving backbone; whatever was opened is closed in reverse, also when opening fails half-way.

    `on_bound` is told the real address before the stores are opened: who connects then waits until the server answers.

    Raises:
        SettingsInvalid: the address is taken, or the runtime file can't be used.
        DataRefused, MigrationPending: the data directory can't be served as it is.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_directory(settings.data))
        runtime = Runtime(settings.runtime_file)
        server, address = bind(settings.grpc)
        stack.push_async_callback(server.stop, None)
        on_bound(address)
        parts = await _open_parts(stack, settings, runtime, clock)
        await stack.enter_async_context(_running(runtime.keep_reading()))
        info = Server(cache(partial(_facts, settings)), lambda: (runtime.switches, runtime.sha256))
        limits = pools(POOLS)
        registry = Registry(server, authenticate=local, authoriser=parts.authoriser, pools=limits)
        _register(registry, parts, info)
        await stack.enter_async_context(
            answering(
                server,
                registry,
                limits,
                reflection=settings.profile == "dev",
                drain=parts.drain,
                alive={INGEST: partial(_there, parts.signals)},
            )
        )
        yield Backbone(address, await _measured(stack, settings, parts), parts.clock, runtime, info)


async def _open_parts(stack: AsyncExitStack, settings: Settings, runtime: Runtime, clock: Clock | None) -> _Parts:
    data = settings.data
    clock = clock or open_clock(data, start_us=settings.clock_start, speed=settings.clock_speed, wall=skewed(wall_us))
    stores = await stack.enter_async_context(open_stores(settings, clock))
    signals, scores = stores.signals, stores.scores
    hub = await stack.enter_async_context(Hub(signals, scores, clock))
    stores.doorbell.listen(hub.rung)
    # What is only found in the log is found too late for an answer that claims to be as of now.
    unchanged = UnchangedScores(
        clock,
        lambda: runtime.on("materialiser") and runtime.value("read_mode") == "cache" and not stores.followed,
    )
    announcer = await stack.enter_async_context(
        Announcer(stores.doorbell, stores.cache, cached=lambda: runtime.on("cache"))
    )
    materializer = await stack.enter_async_context(
        Materializer(
            signals,
            scores,
            clock,
            enabled=lambda: runtime.on("materialiser"),
            on_published=(unchanged.published, hub.published, announcer.published),
            leases=stores.leases,
        )
    )
    follower = Follower(signals, materializer, clock, stores.doorbell) if stores.followed else None
    if follower is not None:
        await stack.enter_async_context(follower)
    ingest = await stack.enter_async_context(
        # The window first: what an event announces can be read.
        Ingest(
            signals,
            clock,
            on_commit=(unchanged.appended, materializer.appended, hub.appended, announcer.appended),
            allow_unlimited=settings.allow_unlimited,
            marked=Marked(signals, stores.marks, lambda: runtime.value("dedupe_mode") == "redis"),
        )
    )
    policies = await stack.enter_async_context(
        Policies(
            signals,
            clock,
            new_id=Uuid7().next,
            on_change=(
                lambda tenant_id, _: unchanged.moved(tenant_id),
                materializer.moved,
                hub.moved,
                announcer.moved,
            ),
        )
    )
    published = PublishedScores(
        materializer.rows,
        materializer,
        clock,
        cache=stores.cache,
        # In mode postgres the way back from a cache that is not trusted leads past it.
        cached=lambda: runtime.on("cache") and runtime.value("read_mode") == "cache",
    )
    authoriser, signer = CarriedGrants(), _signer(settings)
    reader = Scores(
        signals,
        scores,
        materializer,
        clock,
        authoriser,
        signer,
        published=published,
        read_mode=lambda: runtime.value("read_mode"),
    )
    return _Parts(
        clock,
        signals,
        scores,
        signer,
        authoriser,
        hub,
        unchanged,
        reader,
        Explanations(signals, materializer, clock, read_mode=lambda: runtime.value("read_mode")),
        Portfolio(signals, scores, materializer, clock, authoriser),
        ingest,
        Streams(ingest),
        policies,
        stores,
        materializer,
        follower,
    )


async def _measured(stack: AsyncExitStack, settings: Settings, parts: _Parts) -> str:
    """The address at which the metrics can be read; '' where nobody is to."""
    if settings.metrics is None:
        return ""
    from coherence_grpc.app.measuring import metrics_of
    from coherence_grpc.app.scraping import scraping

    follower = parts.follower
    metrics = metrics_of(
        parts.stores,
        streams=parts.streams,
        computations=lambda: parts.materializer.computations,
        polls=lambda: 0 if follower is None else follower.polls,
    )
    return await stack.enter_async_context(scraping(settings.metrics, metrics.page))


def _signer(settings: Settings) -> Signer:
    return Signer([Key(*key) for key in settings.cursor_keys]) if settings.cursor_keys else load_signer(settings.data)


def _register(registry: Registry, parts: _Parts, info: Server) -> None:
    records = Records(parts.signals, parts.clock, parts.authoriser)
    cursors = Cursors(parts.signals, parts.scores)
    sweeps = Sweeps(parts.signals)
    registry.add(
        add_IngestServiceServicer_to_server,
        IngestServicer(
            parts.ingest,
            records,
            cursors,
            parts.signer,
            SignalStreams(parts.streams, parts.signer),
            ScoredWrites(parts.reader, parts.authoriser),
        ),
    )
    registry.add(
        add_ScoreServiceServicer_to_server,
        ScoreServicer(
            parts.reader,
            parts.unchanged,
            parts.hub,
            cursors,
            parts.signer,
            explanations=parts.explanations,
            portfolio=parts.portfolio,
            policies=PolicyAnswers(parts.policies, parts.signer),
            history=HistoryAnswers(
                History(parts.scores, parts.clock, RecomputedHistory(parts.signals, sweeps)), parts.signer
            ),
            simulation=SimulationAnswers(
                Simulation(parts.signals, parts.materializer.rows, parts.clock, sweeps), parts.signer
            ),
        ),
    )
    registry.add(add_EventsServiceServicer_to_server, EventsServicer(parts.hub, parts.signer))
    registry.add(add_MetaServiceServicer_to_server, MetaServicer(info, records, parts.clock))
    registry.add(add_AdminServiceServicer_to_server, AdminServicer(records))


def _facts(settings: Settings, environ: Mapping[str, str] = os.environ) -> Facts:
    return Facts(
        version=version("coherence"),
        commit=environ.get("COHERENCE_COMMIT", ""),
        profile=settings.profile,
        capabilities=CAPABILITIES,
        limits=Limits(
            max_batch_signals=MAX_BATCH_SIGNALS,
            max_batch_bytes=MAX_BATCH_BYTES,
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_batch_tenants=MAX_BATCH_TENANTS,
            max_ts_ahead_s=MAX_TS_AHEAD_S,
            max_deadline_s=MAX_DEADLINE_S,
        ),
        parts=tuple(_parts(settings)),
    )


def _parts(settings: Settings) -> Iterator[Part]:
    """Which engine plays which part, by the version of what speaks to it."""
    stored = version("apsw")
    yield Part("signals", "neo4j", version("neo4j")) if settings.neo4j_uri else Part("signals", "embedded", stored)
    yield (
        Part("scores", "postgres", version("psycopg")) if settings.postgres_uri else Part("scores", "embedded", stored)
    )
    if settings.redis_url:
        yield Part("doorbell", "redis", version("redis"))
    yield Part("policy", "local", version("coherence"))


async def _there(signals: SignalStore) -> bool:
    """The signal store answers: without it nothing can be stored, while scores can still be read."""
    try:
        await signals.head(NOBODY)
    except CoherenceError:
        return False
    return True


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """The work goes on beside the body, and ends with it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
