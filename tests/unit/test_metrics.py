"""The table of metrics: what is shown is what it says, and the docs say the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coherence_grpc.telemetry.metrics import METRICS, Metrics

if TYPE_CHECKING:
    from coherence_grpc.telemetry.metrics import Metric

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
COUNTER = "coherence_cache_lookups_total"
GAUGE = "coherence_breaker_state"


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """The numbers of the page by name and values of the labels, in the order of their names."""
    page, _ = metrics.page()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def row_of(metric: Metric) -> str:
    labels = "; ".join(f"`{name}`: {', '.join(values)}" for name, values in metric.labels.items())
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |"


def test_ac_obs_01_the_page_of_the_docs_is_the_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert rows == list(map(row_of, METRICS))


def test_a_counter_is_there_from_the_start_and_a_gauge_when_there_is_something() -> None:
    shown = samples(Metrics())

    assert set(shown.values()) == {0.0}
    assert {(COUNTER, "hit"), (COUNTER, "miss")} < shown.keys()
    assert {name for name, *_ in shown} == {metric.name for metric in METRICS if metric.kind == "counter"}


def test_each_look_reads_the_number_of_that_moment() -> None:
    metrics, hits = Metrics(), 3
    metrics.read(COUNTER, lambda: {("hit",): hits})
    metrics.read(GAUGE, lambda: {("neo4j", "open"): 1})

    before = samples(metrics)
    hits = 4

    assert (before[COUNTER, "hit"], samples(metrics)[COUNTER, "hit"], before[COUNTER, "miss"]) == (3, 4, 0)
    assert {key: number for key, number in before.items() if key[0] == GAUGE} == {(GAUGE, "open", "neo4j"): 1}


def test_a_metric_that_is_not_in_the_table_can_not_be_read() -> None:
    with pytest.raises(KeyError):
        Metrics().read("coherence_unheard_of_total", dict)


@pytest.mark.parametrize(
    ("accept", "ending"), [("", b"\n"), ("application/openmetrics-text; version=1.0.0", b"# EOF\n")]
)
def test_the_page_comes_in_the_format_that_is_asked_for(accept: str, ending: bytes) -> None:
    page, media_type = Metrics().page(accept)

    assert page.endswith(ending)
    assert media_type.startswith("application/openmetrics-text" if accept else "text/plain")


def test_no_metric_tells_tenants_apart() -> None:
    assert not [metric.name for metric in METRICS if "tenant" in " ".join(metric.labels)]
