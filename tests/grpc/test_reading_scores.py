from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence.v1 import ingest_pb2, score_pb2, signal_pb2
from coherence_grpc.client import refusal_of_status
from coherence_grpc.convert.instants import microseconds, timestamp
from coherence_grpc.model import DAY, SECOND
from tests.builders import NOON, TENANT
from tests.grpc.running import a_signal, refused
from tests.serving import eventually

if TYPE_CHECKING:
    from tests.grpc.running import World

pytestmark = pytest.mark.anyio


async def published(served: World, version: int, tenant_id: str = TENANT) -> score_pb2.Score:
    """The tenant's row, once that version is published."""

    async def rows() -> list[score_pb2.Score]:
        reply = await served.client.score.ListScores(score_pb2.ListScoresRequest())
        return [row for row in reply.scores if row.tenant_id == tenant_id and row.version >= version]

    return (await eventually(rows))[0]


async def test_a_tenant_never_heard_of_is_unknown_without_a_score(served: World) -> None:
    score = await served.score()

    assert score.status == score_pb2.STATUS_UNKNOWN
    assert not score.HasField("score")
    assert not score.HasField("data_time")
    assert score.signal_count == 0


async def test_r3_a_write_is_seen_by_the_next_read_every_time(served: World) -> None:
    for count in range(1, 30):
        await served.publish()

        assert (await served.score()).signal_count == count


async def test_a_score_says_what_it_is_made_of(served: World) -> None:
    await served.publish(
        a_signal(value=1.0, weight=1.0, ts=NOON - SECOND),
        a_signal(value=0.0, weight=2.0, ts=NOON),
        a_signal(value=0.0, weight=0.0, ts=NOON),
    )

    score = await served.score()

    assert (score.score, score.status) == (0.333333, score_pb2.STATUS_CRITICAL)
    assert (score.signal_count, score.weight_sum, score.as_of_seq) == (2, 3.0, 3)
    assert (microseconds(score.window_start_time), microseconds(score.window_end_time)) == (NOON - DAY, NOON)
    assert microseconds(score.data_time) == NOON
    assert microseconds(score.valid_until_time) == NOON - SECOND + DAY + 1
    assert score.source == score_pb2.SCORE_SOURCE_MATERIALIZED
    assert score.cursor
    assert not score.stale


async def test_r3_a_signal_ages_out_though_nothing_arrives(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - DAY + SECOND), a_signal(value=0.9, ts=NOON))
    before = await served.score()

    served.clock.advance(SECOND)
    at_the_edge = await served.score()
    served.clock.advance(1)
    after = await served.score()

    assert (before.score, at_the_edge.score, after.score) == (0.55, 0.55, 0.9)


async def test_r3_a_future_dated_signal_counts_when_its_time_comes(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON + 300 * SECOND))
    before = await served.score()

    served.clock.advance(300 * SECOND)

    assert before.status == score_pb2.STATUS_UNKNOWN
    assert microseconds(before.valid_until_time) == NOON + 300 * SECOND
    assert (await served.score()).score == 0.2


async def test_r3_a_score_read_again_and_again_follows_every_write(served: World) -> None:
    for count in range(1, 10):
        await served.publish()

        assert [(await served.score()).signal_count for _ in range(3)] == [count] * 3


async def test_an_answer_given_again_does_not_outlast_its_score(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - DAY), a_signal(value=0.9, ts=NOON))
    assert (await served.score()).score == 0.55

    served.clock.advance(1)

    assert (await served.score()).score == 0.9


async def test_r3_without_the_materialiser_a_score_is_computed_and_exact(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - DAY), a_signal(value=0.9, ts=NOON))
    await served.score()

    served.turn(materialiser="off")
    served.clock.advance(1)
    await served.publish(a_signal(value=0.7, ts=NOON))
    score = await served.score()

    assert (score.score, score.source) == (0.8, score_pb2.SCORE_SOURCE_COMPUTED)
    assert not score.stale


async def test_r3_without_the_materialiser_the_portfolio_says_that_it_is_stale(served: World) -> None:
    await served.publish(a_signal(value=0.2))
    await published(served, 1)

    served.turn(materialiser="off")
    await served.publish(a_signal(value=0.9))
    reply = await served.client.score.ListScores(score_pb2.ListScoresRequest())

    assert [(row.score, row.stale) for row in reply.scores] == [(0.2, True)]


async def test_as_of_recomputes_a_past_instant_from_all_signals_stored_now(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - 10 * SECOND))
    served.clock.advance(SECOND)
    await served.publish(a_signal(value=0.4, ts=NOON - 5 * SECOND))

    then = await served.score(as_of=NOON - 5 * SECOND)
    before = await served.score(as_of=NOON - 6 * SECOND)
    long_ago = await served.score(as_of=0)

    assert (then.score, before.score) == (0.3, 0.2)
    assert long_ago.status == score_pb2.STATUS_UNKNOWN
    assert not then.cursor


async def test_as_of_an_instant_ahead_of_the_clock_is_refused(served: World) -> None:
    refusal = await refused(served.score(as_of=NOON + 1))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FILTER_INVALID")
    assert [path for path, _ in refusal.fields] == ["as_of_time"]


async def test_a_read_at_least_as_fresh_as_a_write_has_seen_it(served: World) -> None:
    request = ingest_pb2.PublishSignalRequest(signal=a_signal(tenant_id=TENANT, value=0.3))
    revision = (await served.client.ingest.PublishSignal(request)).revision

    assert (await served.score(seen=revision)).score == 0.3


async def test_a_revision_of_another_tenant_or_of_none_is_foreign(served: World) -> None:
    request = ingest_pb2.PublishSignalRequest(signal=a_signal(tenant_id="other"))
    other = (await served.client.ingest.PublishSignal(request)).revision

    for revision in (other, signal_pb2.Revision(token=other.token[::-1])):
        refusal = await refused(served.score(seen=revision))
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "CURSOR_FOREIGN")


async def test_a_batch_answers_each_tenant_by_itself(served: World) -> None:
    await served.publish(a_signal(value=0.3))
    request = score_pb2.BatchGetScoresRequest(tenant_ids=[TENANT, "No!", "unheard-of", TENANT])

    reply = await served.client.score.BatchGetScores(request)

    assert [item.tenant_id for item in reply.results] == [TENANT, "No!", "unheard-of", TENANT]
    assert [item.score.score for item in reply.results] == [0.3, 0, 0, 0.3]
    assert refusal_of_status(reply.results[1].error).reason == "FILTER_INVALID"
    assert reply.results[2].score.status == score_pb2.STATUS_UNKNOWN


async def test_the_portfolio_comes_worst_first_page_by_page(served: World) -> None:
    for tenant_id, value in (("good", 0.9), ("bad", 0.1), ("fair", 0.6)):
        await served.publish(a_signal(value=value), tenant_id=tenant_id)
        await published(served, 1, tenant_id)

    first = await served.client.score.ListScores(score_pb2.ListScoresRequest(page_size=2))
    rest = await served.client.score.ListScores(
        score_pb2.ListScoresRequest(page_size=2, page_token=first.next_page_token)
    )

    assert [row.tenant_id for row in first.scores] == ["bad", "fair"]
    assert [row.tenant_id for row in rest.scores] == ["good"]
    assert not rest.next_page_token


async def test_the_portfolio_is_narrowed_by_status_and_by_exact_bounds(served: World) -> None:
    for tenant_id, value in (("good", 0.9), ("bad", 0.1), ("fair", 0.6)):
        await served.publish(a_signal(value=value), tenant_id=tenant_id)
        await published(served, 1, tenant_id)

    async def tenants(**narrow: object) -> list[str]:
        narrowed = score_pb2.ScoreFilter(**narrow)  # type: ignore[arg-type]  # fields by name
        reply = await served.client.score.ListScores(score_pb2.ListScoresRequest(filter=narrowed))
        return [row.tenant_id for row in reply.scores]

    assert await tenants(statuses=[score_pb2.STATUS_WARN]) == ["fair"]
    assert await tenants(min_score=0.6, max_score=0.9) == ["fair", "good"]
    assert await tenants(min_score=0.6000004) == ["good"]
    assert await tenants(max_score=0.5999996) == ["bad"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (score_pb2.SCORE_ORDER_WORST_FIRST, ["bad", "fair", "good"]),
        (score_pb2.SCORE_ORDER_BEST_FIRST, ["good", "fair", "bad"]),
        (score_pb2.SCORE_ORDER_TENANT_ID, ["bad", "fair", "good"]),
        (score_pb2.SCORE_ORDER_LAST_CHANGED, ["fair", "good", "bad"]),
    ],
)
async def test_the_portfolio_comes_in_any_order_page_by_page(
    served: World, order: score_pb2.ScoreOrder.ValueType, expected: list[str]
) -> None:
    for tenant_id, value in (("bad", 0.1), ("good", 0.9), ("fair", 0.6)):
        await served.publish(a_signal(value=value, ts=NOON), tenant_id=tenant_id)
        await published(served, 1, tenant_id)
        served.clock.advance(SECOND)
    seen: list[str] = []
    request = score_pb2.ListScoresRequest(page_size=1, order=order)

    while True:
        reply = await served.client.score.ListScores(request)
        seen += [row.tenant_id for row in reply.scores]
        request.page_token = reply.next_page_token
        if not reply.next_page_token:
            break

    assert seen == expected


async def test_a_page_token_of_another_order_is_refused(served: World) -> None:
    for tenant_id in ("bad", "good"):
        await served.publish(a_signal(), tenant_id=tenant_id)
        await published(served, 1, tenant_id)
    first = await served.client.score.ListScores(score_pb2.ListScoresRequest(page_size=1))
    other = score_pb2.ListScoresRequest(
        page_size=1, page_token=first.next_page_token, order=score_pb2.SCORE_ORDER_BEST_FIRST
    )

    refusal = await refused(served.client.score.ListScores(other))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_the_portfolio_says_what_is_held_since_when_and_where_a_score_is_going(served: World) -> None:
    await served.publish(a_signal(value=0.9, ts=NOON))
    await published(served, 1)
    served.clock.advance(3600 * SECOND)
    await served.publish(a_signal(value=0.1, ts=NOON + 3600 * SECOND))

    row = await published(served, 2)

    assert (row.status, row.held_status) == (score_pb2.STATUS_WARN, score_pb2.STATUS_WARN)
    assert microseconds(row.held_since_time) == NOON + 3600 * SECOND
    assert row.trend == score_pb2.TREND_DOWN


async def test_the_portfolio_is_narrowed_by_held_status_and_by_the_beginning_of_the_tenants_id(served: World) -> None:
    for tenant_id, value in (("eu-good", 0.9), ("eu-bad", 0.1), ("us-bad", 0.1)):
        await served.publish(a_signal(value=value), tenant_id=tenant_id)
        await published(served, 1, tenant_id)

    async def tenants(**narrow: object) -> list[str]:
        narrowed = score_pb2.ScoreFilter(**narrow)  # type: ignore[arg-type]  # fields by name
        reply = await served.client.score.ListScores(score_pb2.ListScoresRequest(filter=narrowed))
        return [row.tenant_id for row in reply.scores]

    assert await tenants(held_statuses=[score_pb2.STATUS_CRITICAL]) == ["eu-bad", "us-bad"]
    assert await tenants(tenant_id_prefix="eu-") == ["eu-bad", "eu-good"]
    assert await tenants(tenant_id_prefix="eu-", held_statuses=[score_pb2.STATUS_HEALTHY]) == ["eu-good"]


async def test_all_pushes_add_up_to_the_score_minus_1(served: World) -> None:
    await served.publish(
        a_signal(signal_id="a", value=0.1, weight=2.0, source="x"),
        a_signal(signal_id="b", value=0.8, weight=1.0, source="y"),
        a_signal(signal_id="muted", value=0.0, weight=0.0),
        a_signal(signal_id="ahead", value=0.0, ts=NOON + SECOND),
    )

    reply = await served.client.score.ExplainScore(score_pb2.ExplainScoreRequest(tenant_id=TENANT))

    assert [part.signal.signal.signal_id for part in reply.contributions] == ["a", "b"]
    assert sum(part.push for part in reply.contributions) == pytest.approx(reply.score.score - 1, abs=1e-6)
    assert [group.name for group in reply.sources] == ["x", "y"]
    assert {part.reason: part.signal_count for part in reply.excluded} == {
        score_pb2.EXCLUSION_REASON_MUTED: 1,
        score_pb2.EXCLUSION_REASON_NOT_YET_DUE: 1,
    }
    assert reply.formula
    assert reply.revision.token


async def test_a_watch_starts_with_the_current_scores_and_sends_every_change_of_status(served: World) -> None:
    await served.publish(a_signal(value=0.9, ts=NOON))
    await published(served, 1)
    watch = served.client.score.WatchScore(
        score_pb2.WatchScoreRequest(tenant_ids=[TENANT, "unheard-of"], status_changes_only=True)
    )
    frames = aiter(watch)
    initial = [await anext(frames), await anext(frames)]

    await served.publish(a_signal(value=0.0, weight=100.0, ts=NOON))
    change = await anext(frames)

    assert [(frame.score.tenant_id, frame.initial) for frame in initial] == [(TENANT, True), ("unheard-of", True)]
    assert (change.score.status, change.status_changed, change.initial) == (score_pb2.STATUS_CRITICAL, True, False)
    watch.cancel()


async def test_a_window_that_overlaps_erased_signals_is_incomplete(served: World) -> None:
    tags = signal_pb2.Tags(retention=signal_pb2.RETENTION_SHORT_30D)
    old = a_signal(tenant_id=TENANT, ts=NOON - 29 * DAY)
    await served.client.ingest.PublishSignal(ingest_pb2.PublishSignalRequest(signal=old, tags=tags))
    await served.publish(a_signal())
    served.clock.advance(3 * DAY)
    erased = await prune(served)

    refusal = await refused(served.score(as_of=NOON - 29 * DAY + SECOND))

    assert erased == 1
    assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "WINDOW_INCOMPLETE")
    assert (await served.client.ingest.VerifyLedger(ingest_pb2.VerifyLedgerRequest(tenant_id=TENANT))).valid


async def prune(served: World) -> int:
    from coherence.v1.admin_pb2 import PruneRequest

    counted = [frame async for frame in served.client.admin.Prune(PruneRequest(dry_run=True))]
    frames = [frame async for frame in served.client.admin.Prune(PruneRequest(tenant_id=TENANT, batch_size=1))]
    assert counted[-1].dry_run
    assert counted[-1].erased_count == frames[-1].erased_count
    assert [frame.done for frame in frames][-1]
    return frames[-1].erased_count


async def test_a_read_as_of_keeps_its_own_instant_in_a_batch(served: World) -> None:
    await served.publish(a_signal(value=0.2, ts=NOON - 10 * SECOND))
    request = score_pb2.BatchGetScoresRequest(tenant_ids=[TENANT], as_of_time=timestamp(NOON - 11 * SECOND))

    reply = await served.client.score.BatchGetScores(request)

    assert reply.results[0].score.status == score_pb2.STATUS_UNKNOWN
