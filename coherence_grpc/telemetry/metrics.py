"""The table of all metrics, and the page that shows them.

Who counts keeps plain numbers; they are read when the page is asked for, so that counting costs no call a lock. No
label says which tenant: there may be any number of them.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric as Family

    # By the values of its labels, in their order.
    Read = Callable[[], Mapping[tuple[str, ...], float]]

LOOKUP: Final = {"result": ("hit", "miss")}


class Metric(NamedTuple):
    """One metric. `labels` gives each label every value it can have.

    A counter starts at 0 for all of them and rises for as long as the process lives; a gauge shows those there are.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: Mapping[str, Sequence[str]]
    meaning: str


METRICS: Final[tuple[Metric, ...]] = (
    Metric("coherence_cache_lookups_total", "counter", LOOKUP, "scores looked for in the cache in Redis"),
    Metric("coherence_marks_lookups_total", "counter", LOOKUP, "requests looked for among the dedupe marks in Redis"),
    Metric(
        "coherence_doorbell_news_total",
        "counter",
        {"event": ("heard", "told", "dropped")},
        "news of logs that moved: heard from other processes, told them, and dropped because Redis was away",
    ),
    Metric(
        "coherence_polls_total",
        "counter",
        {},
        "times the signal store was asked which logs other processes moved",
    ),
    Metric(
        "coherence_redis_failures_total",
        "counter",
        {"role": ("cache", "marks", "doorbell")},
        "calls that Redis did not answer; everybody went on without it",
    ),
    Metric(
        "coherence_breaker_state",
        "gauge",
        {"store": ("neo4j", "postgres", "redis"), "state": ("closed", "open", "half-open")},
        "1 for the state that the circuit breaker before the server is in: closed lets calls through, open none, "
        "half-open one",
    ),
    Metric(
        "coherence_score_computations_total",
        "counter",
        {},
        "scores computed from the stored signals, each once for all who asked at the same time",
    ),
    Metric("coherence_signal_streams", "gauge", {}, "streams of signals that are open"),
    Metric(
        "coherence_signal_streams_total",
        "counter",
        {"event": ("opened", "batches", "signals", "acks", "throttles")},
        "what happened on streams of signals: streams opened, batches and signals taken in, Acks sent, and how often "
        "a client was asked to wait",
    ),
)


class Metrics(Collector):
    """The metrics of one process."""

    def __init__(self) -> None:
        self._known = {metric.name: metric for metric in METRICS}
        self._reads: dict[str, Read] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def read(self, name: str, read: Read) -> None:
        """From here on the metric shows what `read` says."""
        self._reads[self._known[name].name] = read

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the Accept header asks for, and its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def collect(self) -> Iterator[Family]:
        """As prometheus_client asks for them."""
        for metric in METRICS:
            found = self._reads[metric.name]() if metric.name in self._reads else {}
            yield _family(metric, found)


def _family(metric: Metric, found: Mapping[tuple[str, ...], float]) -> Family:
    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind == "counter":
        family = CounterMetricFamily(metric.name, metric.meaning, labels=list(metric.labels))
        found = dict.fromkeys(product(*metric.labels.values()), 0.0) | dict(found)
    else:
        family = GaugeMetricFamily(metric.name, metric.meaning, labels=list(metric.labels))
    for values, number in found.items():
        family.add_metric(list(values), number)
    return family
