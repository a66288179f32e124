"""The client's types as its callers meet them: mypy reads this, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import assert_type

from coherence_grpc.client import (
    Client,
    Event,
    EventIteration,
    EventStream,
    Explanation,
    Gap,
    History,
    Iteration,
    Published,
    Publisher,
    PublisherStats,
    Recomputed,
    Refusal,
    Rejection,
    Score,
    ScorePolicy,
    ScoreUpdate,
    Signal,
    Simulation,
    Status,
    StoredSignal,
    SyncClient,
    SyncPublisher,
    Veto,
    connect,
    connect_sync,
)


async def calls(client: Client, signals: list[Signal]) -> None:
    assert_type(await client.publish("acme", source="ci", type="tests", value=0.9), Published)
    assert_type(await client.publish_all("acme", signals), list[Published | Refusal])
    assert_type(await client.get_score("acme"), Score)
    assert_type(client.list_scores(), AsyncGenerator[Score, None])
    assert_type(client.list_signals("acme"), AsyncGenerator[StoredSignal, None])
    assert_type(await client.explain("acme"), Explanation)
    assert_type(await client.history("acme"), History)
    assert_type(await client.simulate("acme", signals), Simulation)
    assert_type(await client.get_policy("acme"), ScorePolicy)
    assert_type(await client.recompute("acme"), Recomputed)
    async with connect(token=lambda: "token") as connected:
        assert_type(connected, Client)


async def a_score(score: Score) -> None:
    assert_type(score.score, float | None)
    assert_type(score.status, Status)
    assert_type(score.held_status, Status | None)
    assert_type(score.data_time, datetime | None)
    score.score = 1.0  # type: ignore[misc]  # it can't be changed


async def a_policy(client: Client, window: timedelta, veto: Veto) -> None:
    changed = await client.update_policy("acme", window=window, vetoes=[veto], dwell=None, etag="1-ab")
    assert_type(changed, ScorePolicy)
    await client.update_policy("acme", window=3600)  # type: ignore[arg-type]  # no number of what
    await client.update_policy("acme", half_live=window)  # type: ignore[call-arg]  # no such rule


async def wrong_calls(client: Client) -> None:
    await client.publish("acme", source="ci", type="tests")  # type: ignore[call-arg]  # there is no default value
    await client.publish("acme", source="ci", type="tests", value="0.9")  # type: ignore[arg-type]  # no number
    await client.get_score("acme", as_of="yesterday")  # type: ignore[arg-type]  # no instant


async def streams(client: Client) -> None:
    assert_type(client.watch("acme", "globex"), AsyncGenerator[ScoreUpdate, None])
    assert_type(client.events("acme"), EventStream)
    async for item in client.events("acme", start="earliest"):
        assert_type(item, Event | Gap)
        assert_type(item.cursor, str)


async def a_publisher(client: Client, signals: list[Signal]) -> None:
    async with client.publisher("acme") as publisher:
        assert_type(publisher, Publisher)
        await publisher.put(signals[0])
        await publisher.put_all(signals)
        assert_type(publisher.stats, PublisherStats)
        assert_type(publisher.rejected, tuple[Rejection, ...])


def without_a_loop(signals: list[Signal], window: timedelta) -> None:
    with connect_sync() as client:
        assert_type(client, SyncClient)
        assert_type(client.publish("acme", source="ci", type="tests", value=0.9), Published)
        assert_type(client.get_score("acme"), Score)
        assert_type(client.update_policy("acme", window=window), ScorePolicy)
        assert_type(client.list_scores(), Iteration[Score])
        assert_type(client.watch("acme"), Iteration[ScoreUpdate])
        assert_type(client.events("acme"), EventIteration)
        for update in client.watch("acme"):
            assert_type(update, ScoreUpdate)
        for item in client.events("acme"):
            assert_type(item, Event | Gap)
        with client.publisher("acme") as publisher:
            assert_type(publisher, SyncPublisher)
            publisher.put(signals[0])
        client.get_score(7)  # type: ignore[arg-type]  # no tenant
        client.publish("acme", source="ci", type="tests")  # type: ignore[call-arg]  # there is no default value
