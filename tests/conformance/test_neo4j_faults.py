"""The signal store while Neo4j is killed, silent, slow or held up: every call ends, and says what to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from neo4j import AsyncGraphDatabase
from neo4j.exceptions import Neo4jError

from coherence_grpc.adapters import neo4j
from coherence_grpc.adapters.neo4j.graph import OPERATION_S, TRANSACTION_S
from coherence_grpc.adapters.neo4j.heads import HOLD
from coherence_grpc.deadline import impose
from coherence_grpc.errors import CoherenceError, OutcomeUnknown, OutOfTime, StoreDown
from coherence_grpc.model import Appended, Outcome
from coherence_grpc.ports import SignalQuery
from coherence_grpc.silence import ANSWER_S, PATIENT_S
from tests.backends.fixtures import NEO4J, Neo4jAuth, an_own_server
from tests.builders import NOON, TENANT, ManualClock, a_score, a_write, an_item
from tests.conformance.asking import append, append_items, stored, verdict
from tests.conformance.on_neo4j import Neo4jHome
from tests.faultproxy import BOLT_COMMIT
from tests.faults import eventually, refusal, tasks_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coherence_grpc.ports import SignalStore
    from tests.backends.sharing import Own
    from tests.faultproxy import FaultProxy

pytestmark = [pytest.mark.anyio, pytest.mark.slow, *NEO4J]

# What a call may take beyond its limit on a busy machine.
SLACK_S = 1.0


@pytest.fixture
async def proxied(migrated_graph: Neo4jHome, clock: ManualClock) -> AsyncIterator[tuple[FaultProxy, SignalStore]]:
    """A store that reaches its server through a proxy, with a log of one entry."""
    async with migrated_graph.behind_a_proxy() as (proxy, through), through.signals(clock) as signals:
        await append_items(signals, an_item())
        yield proxy, signals
        proxy.heal()


@pytest.fixture
def server() -> Iterator[Own]:
    with an_own_server("neo4j") as own:
        yield own


async def attempt(signals: SignalStore) -> object:
    try:
        return await signals.head(TENANT)
    except CoherenceError as refused:
        return refused


async def back(signals: SignalStore) -> None:
    """Returns when the store answers again."""
    await eventually(lambda: attempt(signals), lambda found: not isinstance(found, Exception), timeout_s=30)


async def test_r10_a_server_that_is_gone_is_down_at_once_and_used_again_when_it_is_back(
    proxied: tuple[FaultProxy, SignalStore],
) -> None:
    proxy, signals = proxied
    proxy.refuse()

    refused = [await refusal(call) for call in (signals.head(TENANT), signals.append([a_write()], now=NOON))]
    proxy.heal()
    await back(signals)

    assert [type(error) for error, _ in refused] == [StoreDown, StoreDown]
    assert max(lasted for _, lasted in refused) < SLACK_S
    assert (await append_items(signals, an_item())).head.seq == 2


async def test_r10_a_silent_server_is_found_out_at_the_first_call_and_then_is_not_asked(
    proxied: tuple[FaultProxy, SignalStore],
) -> None:
    proxy, signals = proxied
    proxy.black_hole()

    read, wrote, reads = (
        await refusal(signals.head(TENANT)),
        await refusal(signals.append([a_write()], now=NOON)),
        [await refusal(signals.head(TENANT)) for _ in range(5)],
    )
    proxy.heal()
    await back(signals)

    assert {type(error) for error, _ in (read, wrote, *reads)} == {StoreDown}
    assert read[1] < PATIENT_S + ANSWER_S + SLACK_S
    assert max(lasted for _, lasted in (wrote, *reads)) < SLACK_S / 10
    assert len(await stored(signals)) == 1


async def test_a_caller_out_of_time_is_told_so_and_the_server_is_not_given_up(
    proxied: tuple[FaultProxy, SignalStore],
) -> None:
    proxy, signals = proxied
    proxy.delay(0.2)

    async def hurried() -> tuple[CoherenceError, float]:
        impose(asyncio.get_running_loop().time() + 0.1)
        return await refusal(signals.listing(TENANT, SignalQuery(), before=None, limit=1))

    refused = [await asyncio.create_task(hurried()) for _ in range(5)]
    proxy.heal()
    wrote = await append_items(signals, an_item())

    assert {type(error) for error, _ in refused} == {OutOfTime}
    assert max(lasted for _, lasted in refused) < SLACK_S
    assert wrote.head.seq == 2


async def test_r5_a_lost_reply_to_a_commit_is_an_unknown_outcome_and_the_same_request_again_tells(
    proxied: tuple[FaultProxy, SignalStore],
) -> None:
    proxy, signals = proxied
    write = a_write(an_item(), an_item(), request_id="lost")
    proxy.drop_reply(BOLT_COMMIT)

    error, _ = await refusal(signals.append([write], now=NOON))
    (again,) = await append(signals, write)

    assert isinstance(error, OutcomeUnknown)
    assert proxy.lost == 1
    assert [(result.outcome, result.seq) for result in again.results] == [
        (Outcome.DUPLICATE, 2),
        (Outcome.DUPLICATE, 3),
    ]
    assert (await verdict(signals)).checked == 3


async def test_r5_a_commit_that_is_never_answered_is_an_unknown_outcome_in_time(
    proxied: tuple[FaultProxy, SignalStore],
) -> None:
    proxy, signals = proxied
    write = a_write(an_item(), request_id="silent")
    proxy.drop_reply(BOLT_COMMIT, silently=True)

    error, lasted = await refusal(signals.append([write], now=NOON))
    (again,) = await append(signals, write)

    assert isinstance(error, OutcomeUnknown)
    assert lasted < OPERATION_S + SLACK_S
    assert [result.outcome for result in again.results] == [Outcome.DUPLICATE]


async def test_r10_connections_that_broke_while_nobody_used_them_fail_no_call(
    proxied: tuple[FaultProxy, SignalStore],
) -> None:
    proxy, signals = proxied
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            _ = tasks.create_task(signals.head(TENANT))
    proxy.cut()

    read = await signals.head(TENANT)
    proxy.cut()
    written = await append_items(signals, an_item())

    assert (read.seq, written.head.seq) == (1, 2)


async def test_a_holder_that_stopped_inside_a_transaction_holds_others_up_for_its_limit_and_changes_nothing(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    uri, user, password = migrated_graph.auth
    async with (
        migrated_graph.signals(clock) as signals,
        AsyncGraphDatabase.driver(uri, auth=(user, password)) as driver,
        driver.session() as session,
    ):
        await append_items(signals, an_item())
        stopped = await session.begin_transaction(timeout=TRANSACTION_S)
        await (await stopped.run(HOLD, tenant_ids=[TENANT])).consume()
        await (await stopped.run("MATCH (t:Tenant) SET t.head_seq = 99")).consume()

        other = await append_items(signals, an_item(), tenant_id="other")
        head = await signals.head(TENANT)
        appended = await append_items(signals, an_item())

        with pytest.raises(Neo4jError):
            await stopped.commit()
        assert (other.head.seq, head.seq, appended.head.seq) == (1, 1, 2)
        assert (await verdict(signals)).checked == 2


async def test_notes_that_could_not_be_written_are_written_when_the_server_is_back(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    query = "MATCH (:Tenant)-[:HAS_SCORE]->(c) RETURN c.version"
    async with migrated_graph.behind_a_proxy() as (proxy, through), through.signals(clock) as signals:
        proxy.refuse()
        signals.note_published(a_score(version=4))
        await eventually(lambda: attempt(signals), lambda found: isinstance(found, StoreDown))
        missed = await migrated_graph.look(query)
        proxy.heal()

        found = await eventually(lambda: migrated_graph.look(query), bool, timeout_s=20)

    assert (missed, found) == ([], [[4]])


async def test_nothing_of_a_store_is_left_when_it_is_closed_while_its_server_is_gone(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async with migrated_graph.behind_a_proxy() as (proxy, through):
        tasks = asyncio.all_tasks()
        async with through.signals(clock) as signals:
            await append_items(signals, an_item())
            signals.note_published(a_score())
            proxy.refuse()

        await eventually(lambda: asyncio.sleep(0, proxy.open), lambda left: left == 0)
        await tasks_end(tasks)


async def test_r3_what_was_answered_outlives_a_killed_server(server: Own) -> None:
    auth = Neo4jAuth(*(server.variables[name] for name in ("NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD")))
    await neo4j.migrate(*auth)
    answered: list[Appended] = []

    async def write(signals: SignalStore) -> CoherenceError:
        while True:
            try:
                answered.append(await append_items(signals, *[an_item() for _ in range(20)]))
            except CoherenceError as error:
                return error

    async with Neo4jHome(auth).signals(ManualClock()) as signals:
        writing = asyncio.create_task(write(signals))
        await eventually(lambda: asyncio.sleep(0, len(answered)), lambda count: count >= 5)
        await asyncio.to_thread(server.kill)
        error = await writing
        await asyncio.to_thread(server.start_again)
        await back(signals)

        last = answered[-1].head
        head = await signals.head(TENANT)
        assert isinstance(error, StoreDown)
        assert head.seq in {last.seq, last.seq + 20}
        assert await signals.hash_at(TENANT, last.seq) == last.head_hash
        assert (await verdict(signals)).checked == head.seq
        assert (await append_items(signals, an_item())).head.seq == head.seq + 1
