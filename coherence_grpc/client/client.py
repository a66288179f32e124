"""The backbone's methods with plain values in and out."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1.health_pb2_grpc import HealthStub

from coherence.v1 import ingest_pb2, score_pb2, signal_pb2
from coherence.v1.admin_pb2_grpc import AdminServiceStub
from coherence.v1.ingest_pb2_grpc import IngestServiceStub
from coherence.v1.meta_pb2_grpc import MetaServiceStub
from coherence.v1.score_pb2_grpc import ScoreServiceStub
from coherence_grpc.client import findings, messages
from coherence_grpc.client.events import Events
from coherence_grpc.client.failures import failure_of
from coherence_grpc.client.following import Reconnecting, ScoreFeed
from coherence_grpc.client.instants import duration, maybe_timestamp
from coherence_grpc.client.model import ScoreOrder, ScoreUpdate, Signal
from coherence_grpc.client.policies import PolicyChanges, policy_message, policy_of
from coherence_grpc.client.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
    from datetime import datetime, timedelta
    from typing import Unpack

    from coherence_grpc.client.credentials import Identity, Pairs
    from coherence_grpc.client.following import OnLost
    from coherence_grpc.client.model import Published, Score, Status, StoredSignal, Tags
    from coherence_grpc.client.policies import ScorePolicy
    from coherence_grpc.client.publisher import Rejection
    from coherence_grpc.client.refusal import Refusal

_Response = TypeVar("_Response")
PAGE: Final = 1000


class Client:
    """The backbone's services over one channel.

    A method takes and returns plain values, ends after `timeout_s` (10 s unless it or `connect` says otherwise) and
    raises a `Refused`. Reads and writes are tried again when the server is unavailable; a write without request id gets
    one, so that this never stores anything twice.

    `ingest`, `score`, `events`, `meta`, `admin` and `health` are the generated stubs. They carry the same metadata,
    save a token that is a function: pass `metadata=await client.metadata()` along then.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        calls: grpc.aio.Channel,
        identity: Identity,
        *,
        timeout_s: float,
        patience_s: float,
    ) -> None:
        self.address = address
        self.channel = channel
        self.ingest = IngestServiceStub(calls)
        self.score = ScoreServiceStub(calls)
        self.events = Events(calls, identity, patience_s)
        self.meta = MetaServiceStub(calls)
        self.admin = AdminServiceStub(calls)
        self.health = HealthStub(calls)  # type: ignore[no-untyped-call]  # grpc_health has no types
        self._calls = calls
        self._identity = identity
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    async def metadata(self) -> Pairs:
        """What goes with a call now."""
        return await self._identity.metadata()

    async def publish(
        self,
        tenant_id: str,
        *,
        source: str,
        type: str,  # noqa: A002 - the domain's word
        value: float,
        weight: float = 1.0,
        ts: datetime | None = None,
        signal_id: str = "",
        request_id: str = "",
        replace: bool = False,
        wait_for_score: bool = False,
        tags: Tags | None = None,
        backfill: bool = False,
        timeout_s: float | None = None,
    ) -> Published:
        """Store one signal; it returns after the commit, or, with `wait_for_score`, with a score that has seen it.

        With `replace` it takes the place of another payload under its key.

        Raises:
            Conflict: another payload is stored under its key, or the request id was used for another content.
            Invalid: a part of it is malformed.
        """
        signal = messages.signal_message(Signal(source, type, value, weight, ts, signal_id))
        signal.tenant_id = tenant_id
        request = ingest_pb2.PublishSignalRequest(
            signal=signal,
            request_id=request_id,
            tags=messages.tags_message(tags),
            backfill=backfill,
            on_conflict=messages.on_conflict(replace=replace),
            durability=messages.durability(wait_for_score=wait_for_score),
        )
        return messages.published_of(await self._ask(self.ingest.PublishSignal, request, timeout_s))

    async def publish_all(
        self,
        tenant_id: str,
        signals: Iterable[Signal],
        *,
        request_id: str = "",
        replace: bool = False,
        wait_for_score: bool = False,
        tags: Tags | None = None,
        backfill: bool = False,
        timeout_s: float | None = None,
    ) -> list[Published | Refusal]:
        """Store up to 1000 signals in one call: what became of each, in order; one that is refused sinks no other."""
        sent = list(signals)
        request = ingest_pb2.PublishSignalsRequest(
            tenant_id=tenant_id,
            signals=map(messages.signal_message, sent),
            request_id=request_id,
            tags=messages.tags_message(tags),
            backfill=backfill,
            on_conflict=messages.on_conflict(replace=replace),
            durability=messages.durability(wait_for_score=wait_for_score),
        )
        return messages.results_of(sent, await self._ask(self.ingest.PublishSignals, request, timeout_s))

    def publisher(
        self,
        tenant_id: str,
        *,
        max_pending: int = 10_000,
        linger_s: float = 0.005,
        close_s: float = 30.0,
        replace: bool = False,
        tags: Tags | None = None,
        backfill: bool = False,
        on_rejected: Callable[[Rejection], None] | None = None,
    ) -> Publisher:
        """Stores signals of one tenant as they come, in batches over a stream, through restarts and lost connections.

        See Publisher; `async with client.publisher("acme") as publisher: await publisher.put(...)`.
        """
        opening = ingest_pb2.StreamOpen(
            tenant_id=tenant_id,
            tags=messages.tags_message(tags),
            backfill=backfill,
            on_conflict=messages.on_conflict(replace=replace),
        )
        return Publisher(
            self._calls,
            self._identity,
            opening,
            max_pending=max_pending,
            linger_s=linger_s,
            close_s=close_s,
            open_s=self._timeout_s,
            patience_s=self._patience_s,
            on_rejected=on_rejected,
        )

    async def get_score(
        self,
        tenant_id: str,
        *,
        at_least: str = "",
        as_of: datetime | None = None,
        policy_etag: str = "",
        timeout_s: float | None = None,
    ) -> Score:
        """A tenant's score now, at least as fresh as the revision `at_least`, or as of a past instant.

        Raises:
            OutOfRange: the window of `as_of` overlaps what retention erased.
            TimedOut: the revision did not become visible in time.
        """
        fresh = score_pb2.Consistency(at_least_as_fresh=signal_pb2.Revision(token=at_least)) if at_least else None
        request = score_pb2.GetScoreRequest(
            tenant_id=tenant_id, consistency=fresh, as_of_time=maybe_timestamp(as_of), policy_etag=policy_etag
        )
        response = await self._ask(self.score.GetScore, request, timeout_s)
        return messages.score_of(response.score, response.revision.token)

    async def list_scores(
        self,
        *,
        statuses: Sequence[Status] = (),
        held_statuses: Sequence[Status] = (),
        min_score: float | None = None,
        max_score: float | None = None,
        tenant_id_prefix: str = "",
        order: ScoreOrder = ScoreOrder.WORST_FIRST,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Score, None]:
        """The published scores of all tenants that the caller may see, page after page."""
        request = score_pb2.ListScoresRequest(
            filter=score_pb2.ScoreFilter(
                statuses=[score_pb2.Status.Value(f"STATUS_{status}") for status in statuses],
                held_statuses=[score_pb2.Status.Value(f"STATUS_{status}") for status in held_statuses],
                min_score=min_score,
                max_score=max_score,
                tenant_id_prefix=tenant_id_prefix,
            ),
            order=score_pb2.ScoreOrder.Value(f"SCORE_ORDER_{order}"),
            page_size=PAGE,
        )
        while True:
            response = await self._ask(self.score.ListScores, request, timeout_s)
            for score in response.scores:
                yield messages.score_of(score)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def list_signals(
        self,
        tenant_id: str,
        *,
        sources: Sequence[str] = (),
        types: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[StoredSignal, None]:
        """A tenant's stored signals from `start` to `end`, newest ts first, page after page."""
        request = ingest_pb2.ListSignalsRequest(
            tenant_id=tenant_id,
            filter=ingest_pb2.SignalFilter(
                sources=sources, types=types, start_time=maybe_timestamp(start), end_time=maybe_timestamp(end)
            ),
            page_size=PAGE,
        )
        while True:
            response = await self._ask(self.ingest.ListSignals, request, timeout_s)
            for signal in response.signals:
                yield messages.stored_of(signal)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def explain(
        self, tenant_id: str, *, top_n: int = 10, as_of: datetime | None = None, timeout_s: float | None = None
    ) -> findings.Explanation:
        """Why a tenant's score is what it is, with the strongest pushes, and when time will move it."""
        request = score_pb2.ExplainScoreRequest(tenant_id=tenant_id, top_n=top_n, as_of_time=maybe_timestamp(as_of))
        return findings.explanation_of(await self._ask(self.score.ExplainScore, request, timeout_s))

    async def history(
        self,
        tenant_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        step: timedelta | None = None,
        recomputed: bool = False,
        policy_etag: str = "",
        max_points: int = 10_000,
        timeout_s: float | None = None,
    ) -> findings.History:
        """A tenant's score from `start` (default: a day before `end`) to `end` (default: now).

        As it was published, or `recomputed` from all signals stored by now, under one policy.
        """
        basis = score_pb2.HISTORY_BASIS_RECOMPUTED if recomputed else score_pb2.HISTORY_BASIS_RECORDED
        request = score_pb2.ListScoreHistoryRequest(
            tenant_id=tenant_id,
            start_time=maybe_timestamp(start),
            end_time=maybe_timestamp(end),
            step=None if step is None else duration(step),
            basis=basis,
            policy_etag=policy_etag,
            page_size=min(PAGE, max_points),
        )
        pages, found = list[score_pb2.ListScoreHistoryResponse](), 0
        while not pages or (pages[-1].next_page_token and found < max_points):
            pages.append(await self._ask(self.score.ListScoreHistory, request, timeout_s))
            request.page_token = pages[-1].next_page_token
            found += len(pages[-1].points)
        return findings.history_of(pages, max_points)

    async def simulate(
        self,
        tenant_id: str,
        signals: Iterable[Signal] = (),
        *,
        policy: PolicyChanges | None = None,
        as_of: datetime | None = None,
        lookback: timedelta | None = None,
        timeout_s: float | None = None,
    ) -> findings.Simulation:
        """What the score would be with these signals too, under another policy, or both. Nothing is written.

        A policy is complete: what it leaves out takes its default. Without one, the current one holds.
        """
        request = score_pb2.SimulateScoreRequest(
            tenant_id=tenant_id,
            signals=map(messages.signal_message, signals),
            policy=None if policy is None else policy_message(policy),
            as_of_time=maybe_timestamp(as_of),
            lookback=None if lookback is None else duration(lookback),
        )
        return findings.simulation_of(await self._ask(self.score.SimulateScore, request, timeout_s))

    async def get_policy(self, tenant_id: str, *, etag: str = "", timeout_s: float | None = None) -> ScorePolicy:
        """The rules by which a tenant is scored, or the version that `etag` names."""
        request = score_pb2.GetScorePolicyRequest(tenant_id=tenant_id, etag=etag)
        return policy_of((await self._ask(self.score.GetScorePolicy, request, timeout_s)).policy)

    async def update_policy(
        self,
        tenant_id: str,
        *,
        etag: str = "",
        request_id: str = "",
        validate_only: bool = False,
        timeout_s: float | None = None,
        **changes: Unpack[PolicyChanges],
    ) -> ScorePolicy:
        """Change the named rules and no other; None sets one back to its default. The policy as it is then.

        Raises:
            Outdated: `etag` is not the current one, and nothing was changed.
            Invalid: a rule is malformed.
        """
        request = score_pb2.UpdateScorePolicyRequest(
            tenant_id=tenant_id,
            policy=policy_message(changes),
            update_mask=FieldMask(paths=changes),
            etag=etag,
            request_id=request_id,
            validate_only=validate_only,
        )
        return policy_of((await self._ask(self.score.UpdateScorePolicy, request, timeout_s)).policy)

    async def recompute(
        self, tenant_id: str, *, request_id: str = "", timeout_s: float | None = None
    ) -> findings.Recomputed:
        """Have a tenant's score computed anew; a read with the revision sees that it was."""
        request = score_pb2.RecomputeScoreRequest(tenant_id=tenant_id, request_id=request_id)
        response = await self._ask(self.score.RecomputeScore, request, timeout_s)
        return findings.Recomputed(response.seq, response.provenance_id, response.revision.token)

    async def watch(
        self, *tenant_ids: str, status_changes_only: bool = False, on_lost: OnLost | None = None
    ) -> AsyncGenerator[ScoreUpdate, None]:
        """The current scores of up to 100 tenants, then every update; latest wins.

        A lost connection is taken up again, and `on_lost` is told; the current scores then come again.

        Raises:
            Refused: the first connection fails, a later refusal is for good, or the service stays away.
        """
        request = score_pb2.WatchScoreRequest(tenant_ids=tenant_ids, status_changes_only=status_changes_only)
        async with aclosing(self.score_feed(request, on_lost).items()) as updates:
            async for update, resumed in updates:
                score = messages.score_of(update.score)
                yield ScoreUpdate(score, update.initial, update.status_changed, resumed)

    def score_feed(
        self, request: score_pb2.WatchScoreRequest, on_lost: OnLost | None, *, patience_s: float | None = None
    ) -> ScoreFeed:
        """The same, of messages."""
        patience_s = self._patience_s if patience_s is None else patience_s
        reconnecting = Reconnecting(patience_s=patience_s, renewable=self._identity.renewable, on_lost=on_lost)

        async def opened() -> grpc.aio.UnaryStreamCall[score_pb2.WatchScoreRequest, score_pb2.WatchScoreResponse]:
            return self.score.WatchScore(request, metadata=await self._identity.metadata())

        return ScoreFeed(opened, reconnecting)

    async def _ask(
        self,
        method: Callable[..., Awaitable[_Response]],
        request: Any,  # noqa: ANN401 - generated stubs don't tie it to the method
        timeout_s: float | None,
    ) -> _Response:
        try:
            return await method(request, timeout=timeout_s, metadata=await self._identity.metadata())
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from error
