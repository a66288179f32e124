from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.instants import microseconds, timestamp
from coherence_grpc.model import SECOND
from tests.builders import NOON, TENANT
from tests.grpc.running import a_signal, refused
from tests.serving import eventually

if TYPE_CHECKING:
    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND


async def history(served: World, **asked: object) -> pb.ListScoreHistoryResponse:
    request = pb.ListScoreHistoryRequest(tenant_id=TENANT, **asked)  # type: ignore[arg-type]  # fields by name
    return await served.client.score.ListScoreHistory(request)


async def move(served: World, *values: float) -> None:
    """A signal of each value an hour apart, each heavy enough to decide the score, each published."""
    for version, value in enumerate(values, start=1):
        await served.publish(a_signal(value=value, weight=10.0**version, ts=served.clock.now()))
        await eventually(lambda: history(served), lambda found, count=version: len(found.points) == count)  # type: ignore[misc]
        served.clock.advance(HOUR)


async def shown(served: World, score: float) -> pb.ListScoreHistoryResponse:
    """The history, once that score was published last."""
    return await eventually(lambda: history(served), lambda found: found.points and found.points[-1].score == score)


async def test_a_history_says_what_was_published_and_when_its_held_status_changed(served: World) -> None:
    await move(served, 0.9, 0.1)

    found = await history(served)

    assert [(microseconds(point.time), point.version, point.signal_count) for point in found.points] == [
        (NOON, 1, 1),
        (NOON + HOUR, 2, 2),
    ]
    assert [point.score for point in found.points] == [0.9, pytest.approx(0.172727)]
    assert [(point.status, point.held_status) for point in found.points] == [
        (pb.STATUS_HEALTHY, pb.STATUS_HEALTHY),
        (pb.STATUS_CRITICAL, pb.STATUS_CRITICAL),
    ]
    end = NOON + 2 * HOUR
    assert [(span.held_status, microseconds(span.start_time), microseconds(span.end_time)) for span in found.spans] == [
        (pb.STATUS_UNKNOWN, end - 24 * HOUR, NOON),
        (pb.STATUS_HEALTHY, NOON, NOON + HOUR),
        (pb.STATUS_CRITICAL, NOON + HOUR, end),
    ]
    assert found.status_change_count == 2
    assert not found.next_page_token


async def test_a_history_comes_by_steps_page_by_page(served: World) -> None:
    await move(served, 0.9, 0.1)
    asked = {"start_time": timestamp(NOON - HOUR), "step": Duration(seconds=1800), "page_size": 3}

    first = await history(served, **asked)
    second = await history(served, **asked, page_token=first.next_page_token)
    third = await history(served, **asked, page_token=second.next_page_token)

    points = [*first.points, *second.points, *third.points]
    assert [microseconds(point.time) for point in points] == [NOON - HOUR + n * HOUR // 2 for n in range(7)]
    assert [point.version for point in points] == [0, 0, 1, 1, 2, 2, 2]
    assert [point.HasField("score") for point in points] == [False, False, *[True] * 5]
    assert (len(first.spans), len(second.spans), third.next_page_token) == (3, 0, "")


async def test_a_change_that_hysteresis_holds_back_is_a_point_and_no_change_of_what_is_held(served: World) -> None:
    policy = pb.ScorePolicy(hysteresis=0.02)
    await served.client.score.UpdateScorePolicy(pb.UpdateScorePolicyRequest(tenant_id=TENANT, policy=policy))
    await served.publish(a_signal(value=0.9, ts=NOON))
    await shown(served, 0.9)
    served.clock.advance(HOUR)
    await served.publish(a_signal(value=0.58, ts=NOON + HOUR))

    found = await shown(served, 0.74)
    listed = await served.client.score.ListScores(
        pb.ListScoresRequest(filter=pb.ScoreFilter(statuses=[pb.STATUS_WARN], held_statuses=[pb.STATUS_HEALTHY]))
    )

    # Before them there may be that of the policy without a signal.
    assert [(point.score, point.status, point.held_status) for point in found.points[-2:]] == [
        (0.9, pb.STATUS_HEALTHY, pb.STATUS_HEALTHY),
        (0.74, pb.STATUS_WARN, pb.STATUS_HEALTHY),
    ]
    assert all(point.policy_etag for point in found.points[-2:])
    assert [span.held_status for span in found.spans] == [pb.STATUS_UNKNOWN, pb.STATUS_HEALTHY]
    assert found.status_change_count == 1
    assert [(row.tenant_id, microseconds(row.held_since_time)) for row in listed.scores] == [(TENANT, NOON)]


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"end_time": timestamp(NOON + 1)}, "end_time"),
        ({"start_time": timestamp(NOON), "end_time": timestamp(NOON - 1)}, "start_time"),
        ({"start_time": timestamp(NOON - 401 * 24 * HOUR)}, "start_time"),
        ({"step": Duration(nanos=999_999_999)}, "step"),
        ({"page_size": 1001}, "page_size"),
        ({"policy_etag": "default"}, "policy_etag"),
    ],
)
async def test_a_history_that_cannot_be_listed_is_refused_with_its_field(
    served: World, asked: dict[str, object], path: str
) -> None:
    refusal = await refused(history(served, **asked))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FILTER_INVALID")
    assert [field for field, _ in refusal.fields] == [path]


async def test_a_page_token_of_another_history_is_refused(served: World) -> None:
    await move(served, 0.9, 0.1)
    first = await history(served, page_size=1)

    refusal = await refused(history(served, page_size=1, step=Duration(seconds=60), page_token=first.next_page_token))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
