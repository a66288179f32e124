"""What each metric is read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coherence_grpc.app.stores import Stores
    from coherence_grpc.ingest import Streams
    from coherence_grpc.telemetry.metrics import Read


def metrics_of(
    stores: Stores, *, streams: Streams, computations: Callable[[], int], polls: Callable[[], int]
) -> Metrics:
    """The metrics of a process that stands on these stores."""
    metrics = Metrics()
    metrics.read("coherence_cache_lookups_total", _lookups(stores, "cache"))
    metrics.read("coherence_marks_lookups_total", _lookups(stores, "marks"))
    metrics.read("coherence_doorbell_news_total", lambda: _news(stores))
    metrics.read("coherence_redis_failures_total", lambda: _failures(stores))
    metrics.read("coherence_polls_total", lambda: {(): polls()})
    metrics.read("coherence_breaker_state", lambda: _states(stores))
    metrics.read("coherence_score_computations_total", lambda: {(): computations()})
    metrics.read("coherence_signal_streams", lambda: {(): streams.open_streams})
    metrics.read("coherence_signal_streams_total", lambda: {(event,): n for event, n in streams.counts.items()})
    return metrics


def _lookups(stores: Stores, role: str) -> Read:
    def read() -> Mapping[tuple[str, ...], float]:
        counts = stores.redis_counts().get(role)
        return {} if counts is None else {("hit",): counts.hits, ("miss",): counts.misses}

    return read


def _news(stores: Stores) -> Mapping[tuple[str, ...], float]:
    counts = stores.redis_counts().get("doorbell")
    if counts is None:
        return {}
    return {("heard",): counts.heard, ("told",): counts.hits, ("dropped",): counts.misses}


def _failures(stores: Stores) -> Mapping[tuple[str, ...], float]:
    # The limiter is not asked yet.
    return {(role,): counts.errors for role, counts in stores.redis_counts().items() if role != "limiter"}


def _states(stores: Stores) -> Mapping[tuple[str, ...], float]:
    return {(store, breaker.state): 1 for store, breaker in stores.breakers.items()}
