"""What-if and recomputed histories over gRPC: what is asked, what is refused and by which field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from coherence.v1 import score_pb2
from coherence_grpc.convert.instants import microseconds, timestamp
from coherence_grpc.model import DAY, SECOND
from tests.builders import NOON, TENANT
from tests.grpc.running import a_signal, refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.grpc.running import World

pytestmark = pytest.mark.anyio
HOUR = 3600 * SECOND
VETO = score_pb2.ScorePolicy(vetoes=[score_pb2.Veto(type="incident", below=0.5, cap_status=score_pb2.STATUS_CRITICAL)])


async def simulate(
    served: World,
    **fields: Any,  # noqa: ANN401 - whatever the request has
) -> score_pb2.SimulateScoreResponse:
    return await served.client.score.SimulateScore(score_pb2.SimulateScoreRequest(tenant_id=TENANT, **fields))


def files_of(data: Path) -> Iterator[tuple[str, bytes]]:
    return ((path.name, path.read_bytes()) for path in data.iterdir() if path.name in {"signals.db", "signals.db-wal"})


async def test_it_says_what_would_be_and_when_it_would_have_differed(served: World) -> None:
    await served.publish(
        a_signal(value=1.0, ts=NOON - 2 * HOUR), a_signal(value=0.4, type="incident", weight=0.5, ts=NOON - HOUR)
    )
    before = await served.score()

    reply = await simulate(served, policy=VETO, signals=[a_signal(value=0.0)])

    assert (reply.actual.score, reply.actual.status) == (0.8, score_pb2.STATUS_HEALTHY)
    assert (reply.simulated.score, reply.simulated.status) == (0.48, score_pb2.STATUS_CRITICAL)
    assert reply.score_delta == -0.32
    assert (reply.actual_change_count, reply.simulated_change_count) == (1, 2)
    (difference,) = reply.differences
    assert (difference.actual_status, difference.simulated_status) == (
        score_pb2.STATUS_HEALTHY,
        score_pb2.STATUS_CRITICAL,
    )
    assert (microseconds(difference.start_time), microseconds(difference.end_time)) == (NOON - HOUR, NOON)
    assert microseconds(reply.compared_from_time) == NOON - 7 * DAY
    assert reply.actual.as_of_seq == before.as_of_seq
    assert (await served.score()).as_of_seq == before.as_of_seq


async def test_no_file_of_signals_changes(served: World) -> None:
    # Publishing a row notes it beside the log.
    served.turn(materialiser="off")
    await served.publish(a_signal(value=1.0, ts=NOON - 2 * HOUR))
    before = dict(files_of(served.data))

    await simulate(served, policy=VETO, signals=[a_signal(value=0.0)])

    assert dict(files_of(served.data)) == before


async def test_with_nothing_supposed_both_are_the_same(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON))

    reply = await simulate(served)

    assert reply.actual == reply.simulated
    assert (reply.score_delta, list(reply.differences)) == (0, [])


async def test_one_without_an_id_is_the_one_that_was_stored_without_an_id(served: World) -> None:
    signal = a_signal(signal_id="", value=0.4, ts=NOON - HOUR)
    await served.publish(signal)

    reply = await simulate(served, signals=[signal, a_signal(signal_id="", value=0.4, ts=NOON)])

    assert (reply.actual.signal_count, reply.simulated.signal_count) == (1, 2)


async def test_a_tenant_without_signals_has_no_delta(served: World) -> None:
    reply = await simulate(served, signals=[a_signal(value=0.3)])

    assert reply.actual.status == score_pb2.STATUS_UNKNOWN
    assert reply.simulated.score == 0.3
    assert not reply.HasField("score_delta")


async def test_a_past_instant_can_be_supposed(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - 3 * HOUR), a_signal(value=0.9, ts=NOON - HOUR))

    reply = await simulate(
        served, as_of_time=timestamp(NOON - 2 * HOUR), lookback=Duration(), signals=[a_signal(value=0.8)]
    )

    assert (reply.actual.score, reply.simulated.score) == (0.2, 0.5)
    assert microseconds(reply.simulated.data_time) == NOON - 2 * HOUR


@pytest.mark.parametrize(
    ("fields", "reason", "paths"),
    [
        ({"signals": [a_signal(value=2.0)]}, "SIGNAL_INVALID", ["signals[0].value"]),
        ({"signals": [a_signal(), a_signal(tenant_id="other")]}, "SIGNAL_INVALID", ["signals[1].tenant_id"]),
        ({"signals": [a_signal(ts=NOON + 301 * SECOND)]}, "SIGNAL_INVALID", ["signals[0].ts"]),
        ({"signals": [a_signal()] * 1001}, "SIGNAL_INVALID", ["signals"]),
        ({"policy": score_pb2.ScorePolicy(hysteresis=0.7)}, "SCORE_POLICY_INVALID", ["policy.hysteresis"]),
        ({"policy": score_pb2.ScorePolicy(warn_threshold=0.8)}, "SCORE_POLICY_INVALID", ["policy.warn_threshold"]),
        ({"policy": score_pb2.ScorePolicy(type_weights={"a": 1e-9})}, "SCORE_POLICY_INVALID", None),
        ({"lookback": Duration(seconds=401 * 86_400)}, "FILTER_INVALID", ["lookback"]),
        ({"lookback": Duration(seconds=1, nanos=-5)}, "FILTER_INVALID", ["lookback"]),
        ({"as_of_time": timestamp(NOON + 1)}, "FILTER_INVALID", ["as_of_time"]),
    ],
    ids=[
        "value",
        "tenant",
        "ahead",
        "too many",
        "rule",
        "contradiction",
        "too small a weight",
        "long lookback",
        "no duration",
        "the future",
    ],
)
async def test_what_can_not_be_supposed_is_refused_by_its_field(
    served: World, fields: dict[str, Any], reason: str, paths: list[str] | None
) -> None:
    refusal = await refused(simulate(served, **fields))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert paths is None or [field.path for field in refusal.fields] == paths


async def test_a_history_is_recomputed_page_by_page(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - 5 * HOUR), a_signal(value=1.0, weight=9, ts=NOON - 2 * HOUR))
    request = score_pb2.ListScoreHistoryRequest(
        tenant_id=TENANT,
        start_time=timestamp(NOON - 6 * HOUR),
        end_time=timestamp(NOON),
        step=Duration(seconds=3600),
        basis=score_pb2.HISTORY_BASIS_RECOMPUTED,
        page_size=4,
    )

    first = await served.client.score.ListScoreHistory(request)
    request.page_token = first.next_page_token
    second = await served.client.score.ListScoreHistory(request)

    points = [*first.points, *second.points]
    assert [point.score if point.HasField("score") else None for point in points] == [
        None,
        0.2,
        0.2,
        0.2,
        0.92,
        0.92,
        0.92,
    ]
    assert [(span.held_status, microseconds(span.start_time)) for span in first.spans] == [
        (score_pb2.STATUS_UNKNOWN, NOON - 6 * HOUR),
        (score_pb2.STATUS_CRITICAL, NOON - 5 * HOUR),
        (score_pb2.STATUS_HEALTHY, NOON - 2 * HOUR),
    ]
    assert (first.status_change_count, len(second.spans), second.next_page_token) == (2, 0, "")
