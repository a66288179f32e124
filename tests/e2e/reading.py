"""What a served instance holds, read back through its API, and scores recomputed from it by plain fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from coherence.v1.events_pb2 import (
    EVENT_KIND_SIGNAL_STORED,
    POSITION_EARLIEST,
    Event,
    EventFilter,
    EventKind,
    PullEventsRequest,
    Start,
)
from coherence.v1.ingest_pb2 import ListSignalsRequest, VerifyLedgerRequest
from coherence.v1.meta_pb2 import GetServerInfoRequest
from coherence.v1.score_pb2 import GetScoreRequest, Score, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coherence.v1.signal_pb2 import SignalKey, StoredSignal
    from coherence_grpc.client import Client

WINDOW_US: Final = 24 * 3600 * 10**6
PPM: Final = 10**6
NANO: Final = 10**9


class Named(NamedTuple):
    """A signal's key, comparable."""

    source: str
    signal_id: str
    ts: int


class Recomputed(NamedTuple):
    """A score by hand: `ppm` None without weighted signals."""

    ppm: int | None
    status: Status.ValueType
    signal_count: int


def micros(timestamp: Timestamp) -> int:
    """The instant in microseconds."""
    return timestamp.ToMicroseconds()


def timestamp(us: int) -> Timestamp:
    """The instant as a message."""
    message = Timestamp()
    message.FromMicroseconds(us)
    return message


def named(key: SignalKey | StoredSignal) -> Named:
    """The key of a signal in its tenant."""
    part = key if not hasattr(key, "signal") else key.signal
    return Named(part.source, part.signal_id, micros(part.ts))


async def clock_us(client: Client) -> int:
    """The server's clock."""
    return micros((await client.meta.GetServerInfo(GetServerInfoRequest())).clock.now_time)


async def entry_count(client: Client) -> int:
    """Log entries of all tenants."""
    return (await client.meta.GetServerInfo(GetServerInfoRequest())).entry_count


async def all_signals(client: Client, tenant_id: str) -> list[StoredSignal]:
    """Every stored signal of the tenant, page by page."""
    request = ListSignalsRequest(tenant_id=tenant_id, page_size=1000)
    signals: list[StoredSignal] = []
    while True:
        page = await client.ingest.ListSignals(request)
        signals += page.signals
        if not page.next_page_token:
            return signals
        request.page_token = page.next_page_token


async def all_events(client: Client, tenant_id: str, *kinds: EventKind.ValueType) -> list[Event]:
    """Every event of these kinds (default: signals) that can still be read, by PullEvents."""
    request = PullEventsRequest(
        tenant_id=tenant_id,
        start=Start(position=POSITION_EARLIEST),
        filter=EventFilter(kinds=kinds or (EVENT_KIND_SIGNAL_STORED,)),
        max_events=1000,
    )
    events: list[Event] = []
    while True:
        page = await client.events.PullEvents(request)
        events += page.events
        if not page.has_more:
            return events
        request.start.CopyFrom(Start(cursor=page.next_cursor))


async def score_of(client: Client, tenant_id: str) -> Score:
    """The tenant's score now."""
    return (await client.score.GetScore(GetScoreRequest(tenant_id=tenant_id))).score


def recomputed(signals: Iterable[StoredSignal], window_end: int) -> Recomputed:
    """The score of these signals at the instant, by fractions of the stored numbers."""
    counted = [
        (Fraction(round(s.signal.value * NANO), NANO), Fraction(round(s.signal.weight * NANO), NANO))
        for s in signals
        if s.signal.weight and window_end - WINDOW_US <= micros(s.signal.ts) <= window_end
    ]
    if not counted:
        return Recomputed(None, Status.STATUS_UNKNOWN, 0)
    # round() of a Fraction is half-even, as the score is.
    ppm = round(sum(v * w for v, w in counted) / sum(w for _, w in counted) * PPM)
    return Recomputed(ppm, status_of(ppm), len(counted))


def status_of(ppm: int) -> Status.ValueType:
    """The word for a score."""
    if ppm >= 750_000:
        return Status.STATUS_HEALTHY
    return Status.STATUS_WARN if ppm >= 500_000 else Status.STATUS_CRITICAL


def said(score: Score) -> Recomputed:
    """What the service says, in the words of `recomputed`."""
    return Recomputed(round(score.score * PPM) if score.HasField("score") else None, score.status, score.signal_count)


async def assert_score_is_exact(client: Client, tenant_id: str, signals: Sequence[StoredSignal] | None = None) -> Score:
    """The score now equals the one by hand of all signals, at the instant for which it speaks."""
    score = await score_of(client, tenant_id)
    signals = await all_signals(client, tenant_id) if signals is None else signals
    assert said(score) == recomputed(signals, micros(score.window_end_time))
    return score


async def assert_log_is_whole(client: Client, tenant_id: str, signals: Sequence[StoredSignal] | None = None) -> int:
    """Entries are gapless, all signals are there once, and the ledger verifies; the head's number."""
    signals = await all_signals(client, tenant_id) if signals is None else signals
    events = await all_events(client, tenant_id)
    request = VerifyLedgerRequest(tenant_id=tenant_id)
    while not (verdict := await client.ingest.VerifyLedger(request)).complete:
        request.from_seq, request.expected_head_hash = verdict.next_seq, verdict.next_head_hash
    assert len({named(s) for s in signals}) == len(signals)
    assert [event.signal.seq for event in events] == list(range(1, verdict.head_seq + 1))
    assert {(named(e.signal), e.signal.seq) for e in events} == {(named(s), s.seq) for s in signals}
    assert verdict.valid, verdict.reason
    return verdict.head_seq
