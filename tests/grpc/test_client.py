"""The typed client against a served backbone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest

from coherence.v1 import score_pb2
from coherence.v1.admin_pb2 import PruneRequest
from coherence.v1.events_pb2 import GetCursorRequest
from coherence_grpc.client import (
    Conflict,
    CursorExpired,
    Event,
    EventKind,
    Forbidden,
    Gap,
    Invalid,
    NotFound,
    Outcome,
    OutOfRange,
    Published,
    Refusal,
    Refused,
    ScoreOrder,
    ScoreSource,
    ScoreUpdate,
    Signal,
    Status,
    Tags,
    TimedOut,
    Unavailable,
    connect,
)
from coherence_grpc.client.failures import failure
from tests.backends.ports import free_port
from tests.builders import NOON, ManualClock
from tests.faultproxy import fault_proxy
from tests.faults import eventually
from tests.grpc.running import world
from tests.speaking import speaking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.client import Client
    from tests.faultproxy import FaultProxy
    from tests.grpc.running import World
    from tests.speaking import Context

pytestmark = pytest.mark.anyio
AT_NOON: Final = datetime.fromtimestamp(NOON / 1e6, UTC)
HOUR: Final = timedelta(hours=1)


async def stored(client: Client, tenant: str, *values: float) -> list[Published]:
    """Signals of an hour ago, one for each value."""
    return [
        await client.publish(tenant, source="ci", type="build", value=value, ts=AT_NOON - HOUR, signal_id=f"s{number}")
        for number, value in enumerate(values)
    ]


# Calls.


async def test_a_signal_is_published_and_its_score_read_in_two_lines(shared: World, tenant: str) -> None:
    published = await shared.client.publish(tenant, source="ci", type="build", value=0.9)
    score = await shared.client.get_score(tenant, at_least=published.revision)

    assert (published.outcome, published.seq, published.ts) == (Outcome.STORED, 1, AT_NOON)
    assert published.signal_id
    assert (score.score, score.status, score.held_status) == (0.9, Status.HEALTHY, Status.HEALTHY)
    assert (score.signal_count, score.as_of_seq, score.data_time) == (1, 1, AT_NOON)
    assert score.window_end - score.window_start == timedelta(hours=24)
    assert score.valid_until == AT_NOON + timedelta(hours=24, microseconds=1)
    assert score.source is ScoreSource.MATERIALIZED


async def test_a_publish_can_wait_for_a_score_that_has_seen_it(shared: World, tenant: str) -> None:
    published = await shared.client.publish(tenant, source="ci", type="build", value=0.2, wait_for_score=True)

    assert published.score is not None
    assert (published.score.score, published.score.as_of_seq) == (0.2, published.seq)


async def test_no_data_is_unknown_and_no_score(shared: World, tenant: str) -> None:
    score = await shared.client.get_score(tenant)

    assert (score.score, score.status, score.data_time, score.valid_until) == (None, Status.UNKNOWN, None, None)


async def test_a_batch_tells_what_became_of_each_signal(shared: World, tenant: str) -> None:
    signals = [Signal("ci", "build", 0.5, signal_id="a", ts=AT_NOON), Signal("ci", "build", 7.0)]

    first, bad = await shared.client.publish_all(tenant, signals, tags=Tags(retention="short-30d"), backfill=True)
    (again,) = await shared.client.publish_all(tenant, signals[:1], tags=Tags(retention="short-30d"))

    assert isinstance(first, Published)
    assert isinstance(bad, Refusal)
    assert isinstance(again, Published)
    assert (first.outcome, first.signal_id, first.ts) == (Outcome.STORED, "a", AT_NOON)
    assert (bad.reason, bad.fields[0].path) == ("SIGNAL_INVALID", "signals[1].value")
    assert (again.outcome, again.seq) == (Outcome.DUPLICATE, first.seq)


async def test_a_signal_can_be_replaced(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.1)

    replaced = await shared.client.publish(
        tenant, source="ci", type="build", value=0.9, ts=AT_NOON - HOUR, signal_id="s0", replace=True
    )

    assert (replaced.outcome, (await shared.client.get_score(tenant)).score) == (Outcome.REPLACED, 0.9)


async def test_lists_go_on_over_pages(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coherence_grpc.client.client.PAGE", 2)
    for number, value in enumerate([0.5, 0.1, 0.9]):
        await stored(served.client, f"t{number}", value, value, value)
    await eventually(lambda: listed(served.client), lambda scores: len(scores) == 3)

    signals = [stored.signal.signal_id async for stored in served.client.list_signals("t0", sources=["ci"])]
    worst = await listed(served.client)
    best = [score.score async for score in served.client.list_scores(order=ScoreOrder.BEST_FIRST, min_score=0.4)]
    critical = [score.tenant_id async for score in served.client.list_scores(statuses=[Status.CRITICAL])]

    assert signals == ["s2", "s1", "s0"]
    assert worst == ["t1", "t0", "t2"]
    assert best == [0.9, 0.5]
    assert critical == ["t1"]


async def listed(client: Client) -> list[str]:
    return [score.tenant_id async for score in client.list_scores()]


async def test_an_explanation_adds_up(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.2, 0.9)

    explained = await shared.client.explain(tenant)

    assert explained.score.score == 0.55
    assert explained.contributions[0].signal.signal.signal_id == "s0"
    assert sum(each.push for each in explained.contributions) == pytest.approx(0.55 - 1)
    assert [(group.name, group.signal_count) for group in explained.sources] == [("ci", 2)]
    assert explained.revision


# Failures.


async def test_each_refusal_is_an_exception_of_its_kind(shared: World, tenant: str) -> None:
    client = shared.client
    await stored(client, tenant, 0.5)

    with pytest.raises(Invalid) as invalid:
        await client.publish(tenant, source="ci", type="build", value=1.5)
    with pytest.raises(Conflict) as conflict:
        await client.publish(tenant, source="ci", type="build", value=0.6, ts=AT_NOON - HOUR, signal_id="s0")
    with pytest.raises(OutOfRange) as too_old:
        await client.publish(tenant, source="ci", type="build", value=0.6, ts=AT_NOON - timedelta(days=999))

    assert (invalid.value.code, invalid.value.fields[0].path) == ("INVALID_ARGUMENT", "signal.value")
    assert conflict.value.reason == "SIGNAL_KEY_CONFLICT"
    assert too_old.value.reason == "TS_OUTSIDE_RETENTION"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", NotFound),
        ("PERMISSION_DENIED", Forbidden),
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", TimedOut),
        ("INTERNAL", Refused),
    ],
)
def test_an_exception_says_what_the_refusal_says(code: str, kind: type[Refused]) -> None:
    refused = failure(Refusal(code, "SOME_REASON", "words", retry_after_s=1.5))

    assert type(refused) is kind
    assert (refused.code, refused.reason, str(refused), refused.retry_after_s) == (code, "SOME_REASON", "words", 1.5)


async def test_an_instant_without_a_time_zone_is_refused_at_once(shared: World, tenant: str) -> None:
    naive = datetime(2013, 2, 8)  # noqa: DTZ001 - what is tested

    with pytest.raises(ValueError, match="has no time zone"):
        await shared.client.get_score(tenant, as_of=naive)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with connect(f"127.0.0.1:{free_port()}", timeout_s=5) as client:
        with pytest.raises(Unavailable):
            await client.get_score("acme")


async def test_a_call_ends_when_its_time_is_up() -> None:
    async def never(request: score_pb2.GetScoreRequest, context: Context) -> score_pb2.GetScoreResponse:
        await asyncio.Event().wait()
        return score_pb2.GetScoreResponse()

    async with speaking(scores=never) as address, connect(address, timeout_s=0.1) as client:
        with pytest.raises(TimedOut):
            await client.get_score("acme")
        with pytest.raises(TimedOut):
            await client.get_score("acme", timeout_s=0.05)


# Who calls, and where to.


async def test_a_token_that_is_a_function_is_asked_before_each_call() -> None:
    seen = list[str]()
    tokens = iter(["one", "two", "three"])

    async def answer(request: score_pb2.GetScoreRequest, context: Context) -> score_pb2.GetScoreResponse:
        seen.append(str(dict(context.invocation_metadata() or ()).get("authorization")))
        return score_pb2.GetScoreResponse()

    async def later() -> str:
        return next(tokens)

    async with speaking(scores=answer) as address:
        async with connect(address, token="fixed") as client:  # noqa: S106 - no secret
            await client.get_score("acme")
            await client.score.GetScore(score_pb2.GetScoreRequest())
        async with connect(address, token=lambda: next(tokens)) as client:
            await client.get_score("acme")
            await client.score.GetScore(score_pb2.GetScoreRequest(), metadata=await client.metadata())
        async with connect(address, token=later) as client:
            await client.get_score("acme")

    assert seen == ["Bearer fixed", "Bearer fixed", "Bearer one", "Bearer two", "Bearer three"]


async def test_address_and_token_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[object]()

    async def answer(request: score_pb2.GetScoreRequest, context: Context) -> score_pb2.GetScoreResponse:
        seen.append(dict(context.invocation_metadata() or ()).get("authorization"))
        return score_pb2.GetScoreResponse()

    async with speaking(scores=answer) as address:
        monkeypatch.setenv("COHERENCE_ADDRESS", address)
        monkeypatch.setenv("COHERENCE_TOKEN", "from-env")
        async with connect() as client, connect(token="") as nobody:
            await client.get_score("acme")
            await nobody.get_score("acme")

    assert seen == ["Bearer from-env", None]


# Streams that come back.


@pytest.fixture
async def cut_off(served: World) -> AsyncIterator[tuple[Client, FaultProxy]]:
    """A client of the served backbone, and what stands between them."""
    port = int(served.backbone.grpc_address.rpartition(":")[2])
    async with fault_proxy(port) as proxy, connect(f"127.0.0.1:{proxy.port}", patience_s=20) as client:
        yield client, proxy


async def signals_of(client: Client, tenant: str, count: int, *, after: str | None = None) -> list[Event]:
    found = list[Event]()
    async for item in client.events(tenant, after=after, start="earliest", kinds=[EventKind.SIGNAL_STORED]):
        assert isinstance(item, Event)
        found.append(item)
        if len(found) == count:
            break
    return found


async def test_events_start_where_they_are_asked_to(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.1, 0.2, 0.3)

    first = await signals_of(shared.client, tenant, 1)
    rest = await signals_of(shared.client, tenant, 2, after=first[0].cursor)

    assert [event.signal.seq for event in [*first, *rest] if event.signal] == [1, 2, 3]
    assert first[0].signal is not None
    assert first[0].signal.signal == Signal("ci", "build", 0.1, 1.0, AT_NOON - HOUR, "s0")


async def test_events_go_on_after_a_cut_without_missing_or_repeating_one(
    served: World, cut_off: tuple[Client, FaultProxy]
) -> None:
    client, proxy = cut_off
    seen, lost = list[int](), list[Refused]()
    stream = client.events("acme", start="earliest", kinds=[EventKind.SIGNAL_STORED], on_lost=lost.append)

    async with asyncio.timeout(30):
        for run in range(3):
            await stored_under(served.client, f"run{run}")
            for _ in range(3):
                item = await anext(stream)
                assert isinstance(item, Event)
                assert item.signal is not None
                seen.append(item.signal.seq)
            proxy.cut()
        await stored_under(served.client, "last")
        item = await anext(stream)
    await stream.aclose()

    assert seen == list(range(1, 10))
    assert isinstance(item, Event)
    assert item.cursor == stream.cursor
    assert len(lost) == 3


async def stored_under(client: Client, prefix: str) -> None:
    for number in range(3):
        await client.publish("acme", source=prefix, type="build", value=0.5, signal_id=str(number), ts=AT_NOON - HOUR)


async def test_a_range_that_was_erased_comes_as_a_gap(tmp_path: Path) -> None:
    clock = ManualClock()
    async with world(tmp_path / "data", clock=clock) as served:
        start = (await served.client.events.GetCursor(GetCursorRequest(tenant_id="acme"))).cursor
        short = Tags(retention="short-30d")
        for number in range(3):
            await served.client.publish("acme", source="ci", type="build", value=0.5, signal_id=str(number), tags=short)
        clock.advance(40 * 86_400 * 1_000_000)
        erased = [frame.erased_count async for frame in served.client.admin.Prune(PruneRequest())]
        await served.client.publish("acme", source="ci", type="build", value=0.5)

        found = list[Event | Gap]()
        async with asyncio.timeout(10):
            async for item in served.client.events("acme", after=start):
                found.append(item)
                if isinstance(item, Event) and item.kind is EventKind.SIGNAL_STORED:
                    break

    assert erased[-1] == 3
    gaps = [item for item in found if isinstance(item, Gap)]
    assert [seq for gap in gaps for seq in range(gap.from_seq, gap.to_seq + 1)] == [1, 2, 3]
    assert gaps[0].cursor


async def test_a_cursor_that_is_not_in_the_log_is_refused_with_what_is_kept(served: World, tmp_path: Path) -> None:
    await stored(served.client, "acme", 0.1)
    longer = tmp_path / "longer"
    longer.mkdir()
    longer.joinpath("cursor.key").write_bytes(served.data.joinpath("cursor.key").read_bytes())
    async with world(longer) as other:
        await stored(other.client, "acme", 0.1, 0.2, 0.3)
        ahead = (await signals_of(other.client, "acme", 3))[2].cursor

    with pytest.raises(CursorExpired) as expired:
        await anext(served.client.events("acme", after=ahead))

    assert (expired.value.earliest_seq, expired.value.latest_seq) == (1, 1)


async def test_a_watch_brings_the_current_score_then_changes(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.9)
    watching = shared.client.watch(tenant)

    async with asyncio.timeout(10):
        first = await anext(watching)
        await shared.client.publish(tenant, source="ci", type="build", value=0.0)
        # The current score may be published, and come, once more.
        second = await anext(update async for update in watching if update.score.score != 0.9)
    await watching.aclose()

    assert (first.score.score, first.initial, first.resumed) == (0.9, True, False)
    assert (second.score.score, second.initial, second.status_changed) == (0.45, False, True)


async def test_a_watch_that_was_cut_tells_that_it_resumed_and_what_has_changed(
    served: World, cut_off: tuple[Client, FaultProxy]
) -> None:
    client, proxy = cut_off
    await stored(served.client, "acme", 0.9)
    watching = client.watch("acme")
    async with asyncio.timeout(20):
        await anext(watching)

        proxy.refuse()
        await served.client.publish("acme", source="ci", type="build", value=0.0, wait_for_score=True)
        proxy.heal()
        updates = list[ScoreUpdate]()
        while not updates or updates[-1].score.score != 0.45:
            updates.append(await anext(watching))
    await watching.aclose()

    assert updates[0].resumed
    assert any(update.status_changed for update in updates)


async def test_what_cannot_be_watched_is_refused_at_once(shared: World) -> None:
    with pytest.raises(Invalid):
        await anext(shared.client.watch("No Tenant"))
    with pytest.raises(Invalid):
        await anext(shared.client.events("acme", after="no cursor"))
    async with connect(f"127.0.0.1:{free_port()}") as nowhere:
        with pytest.raises(Unavailable):
            await anext(nowhere.watch("acme"))
