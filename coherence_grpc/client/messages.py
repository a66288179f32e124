"""Signals, scores and events between the wire and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import events_pb2, ingest_pb2, score_pb2, signal_pb2
from coherence_grpc.client.instants import instant, maybe_instant, maybe_timestamp
from coherence_grpc.client.model import (
    Event,
    EventKind,
    Gap,
    Outcome,
    Published,
    Score,
    ScoreSource,
    Signal,
    Status,
    StoredSignal,
    Tags,
    Trend,
)
from coherence_grpc.client.policies import policy_of
from coherence_grpc.client.refusal import refusal_of_status

if TYPE_CHECKING:
    from coherence_grpc.client.refusal import Refusal

_STATUSES: Final = {score_pb2.Status.Value(f"STATUS_{word}"): word for word in Status}
_TRENDS: Final = {score_pb2.Trend.Value(f"TREND_{word}"): word for word in Trend}
_SOURCES: Final = {score_pb2.ScoreSource.Value(f"SCORE_SOURCE_{word}"): word for word in ScoreSource}
_OUTCOMES: Final = {ingest_pb2.Outcome.Value(f"OUTCOME_{word}"): word for word in Outcome}


def signal_message(signal: Signal) -> signal_pb2.Signal:
    """The signal as it is sent.

    Raises:
        TypeError: a part of it is of another type.
        ValueError: a part of it has no encoding.
    """
    return signal_pb2.Signal(
        source=signal.source,
        signal_id=signal.signal_id,
        type=signal.type,
        value=signal.value,
        weight=signal.weight,
        ts=maybe_timestamp(signal.ts),
    )


def tags_message(tags: Tags | None) -> signal_pb2.Tags:
    """The tags as they are sent; what is left out takes the server's default."""
    tags = tags or Tags()
    return signal_pb2.Tags(
        purpose=signal_pb2.Purpose.Value(f"PURPOSE_{_constant(tags.purpose)}"),
        retention=signal_pb2.Retention.Value(f"RETENTION_{_constant(tags.retention)}"),
    )


def on_conflict(*, replace: bool) -> ingest_pb2.OnConflict.ValueType:
    """What becomes of a signal whose key is stored with another payload."""
    return ingest_pb2.ON_CONFLICT_REPLACE if replace else ingest_pb2.ON_CONFLICT_REJECT


def durability(*, wait_for_score: bool) -> ingest_pb2.Durability.ValueType:
    """When the server is to answer."""
    return ingest_pb2.DURABILITY_SCORED if wait_for_score else ingest_pb2.DURABILITY_STORED


def signal_of(message: signal_pb2.Signal) -> Signal:
    """A signal as it was sent, or as it is stored."""
    weight = message.weight if message.HasField("weight") else 1.0
    ts = instant(message.ts) if message.HasField("ts") else None
    return Signal(message.source, message.type, message.value, weight, ts, message.signal_id)


def stored_of(message: signal_pb2.StoredSignal) -> StoredSignal:
    """A signal of the log."""
    return StoredSignal(
        message.signal.tenant_id,
        signal_of(message.signal),
        message.seq,
        message.provenance_id,
        message.cursor,
        instant(message.recorded_time),
        message.backfill,
    )


def status_of(status: score_pb2.Status.ValueType) -> Status:
    """The status; a word that came after this version is UNKNOWN, which paints nothing."""
    return _STATUSES.get(status, Status.UNKNOWN)


def maybe_status(status: score_pb2.Status.ValueType) -> Status | None:
    """The status; None when it is left out."""
    return status_of(status) if status else None


def score_of(message: score_pb2.Score, revision: str = "") -> Score:
    """A tenant's score."""
    return Score(
        tenant_id=message.tenant_id,
        score=message.score if message.HasField("score") else None,
        status=status_of(message.status),
        held_status=maybe_status(message.held_status),
        held_since=maybe_instant(message.held_since_time),
        signal_count=message.signal_count,
        weight_sum=message.weight_sum,
        window_start=instant(message.window_start_time),
        window_end=instant(message.window_end_time),
        data_time=maybe_instant(message.data_time),
        valid_until=maybe_instant(message.valid_until_time),
        as_of_seq=message.as_of_seq,
        head_hash=message.head_hash,
        version=message.version,
        policy_etag=message.policy_etag,
        computed_time=instant(message.computed_time),
        source=_SOURCES.get(message.source),
        stale=message.stale,
        trend=_TRENDS.get(message.trend),
        cursor=message.cursor,
        revision=revision,
    )


def published_of(message: ingest_pb2.PublishSignalResponse) -> Published:
    """What became of one signal."""
    return Published(
        _OUTCOMES[message.outcome],
        message.key.signal_id,
        maybe_instant(message.key.ts),
        message.seq,
        message.provenance_id,
        message.revision.token,
        score_of(message.score, message.revision.token) if message.HasField("score") else None,
        message.score_pending,
    )


def results_of(signals: list[Signal], message: ingest_pb2.PublishSignalsResponse) -> list[Published | Refusal]:
    """What became of each signal of a batch, in its order."""
    score = score_of(message.score, message.revision.token) if message.HasField("score") else None
    found: list[Published | Refusal] = []
    for sent, result in zip(signals, message.results, strict=True):
        if result.HasField("error"):
            found.append(refusal_of_status(result.error))
            continue
        filled = result.HasField("key")
        found.append(
            Published(
                _OUTCOMES[result.outcome],
                result.key.signal_id if filled else sent.signal_id,
                instant(result.key.ts) if filled else sent.ts,
                result.seq,
                result.provenance_id,
                message.revision.token,
                score,
                message.score_pending,
            )
        )
    return found


def event_of(message: events_pb2.Event) -> Event | None:
    """An event; None for a kind that came after this version."""
    try:
        kind = EventKind(events_pb2.EventKind.Name(message.kind).removeprefix("EVENT_KIND_"))
    except ValueError:
        return None
    return Event(
        cursor=message.cursor,
        tenant_id=message.tenant_id,
        kind=kind,
        occurred_time=instant(message.occurred_time),
        recorded_time=instant(message.recorded_time),
        signal=stored_of(message.signal) if message.HasField("signal") else None,
        score=score_of(message.score) if message.HasField("score") else None,
        policy=policy_of(message.policy) if message.HasField("policy") else None,
        superseded=signal_of(message.superseded) if message.HasField("superseded") else None,
        traceparent=message.traceparent,
    )


def gap_of(message: events_pb2.Gap) -> Gap:
    """An erased range."""
    return Gap(message.from_seq, message.to_seq, message.cursor, message.reason)


def _constant(word: str | None) -> str:
    return (word or "unspecified").upper().replace("-", "_")
