"""The score store while PostgreSQL is killed, frozen or refuses: every call ends, and says what to do."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from coherence_grpc.adapters import postgres
from coherence_grpc.adapters.postgres.connecting import CONNECT_S
from coherence_grpc.adapters.postgres.database import CONNECTIONS, POOL_S
from coherence_grpc.deadline import impose
from coherence_grpc.errors import CoherenceError, OutcomeUnknown, OutOfTime, SettingsInvalid, StoreBusy, StoreDown
from coherence_grpc.silence import ANSWER_S, PATIENT_S
from tests.backends.fixtures import POSTGRES, an_own_server
from tests.builders import TENANT, a_score
from tests.faults import eventually, refusal, tasks_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coherence_grpc.ports import ScoreStore
    from tests.backends.sharing import Own
    from tests.conformance.on_postgres import Schema

pytestmark = [pytest.mark.anyio, pytest.mark.slow, POSTGRES]

# What a call may take beyond its limit on a busy machine.
SLACK_S = 1.0
SILENCE_S = PATIENT_S + ANSWER_S
SECRET = "don't tell"  # noqa: S105 - of nobody


@pytest.fixture
def server() -> Iterator[Own]:
    with an_own_server("postgres") as own:
        yield own


@pytest.fixture
async def scores(server: Own) -> AsyncIterator[ScoreStore]:
    """A store on that server, with a score."""
    uri = server.variables["POSTGRES_URI"]
    await postgres.migrate(uri)
    async with postgres.open_score_store(uri) as store:
        await store.publish([a_score()])
        yield store


async def attempt(scores: ScoreStore) -> object:
    try:
        return await scores.get([TENANT])
    except CoherenceError as refused:
        return refused


async def test_r9_a_killed_server_is_down_at_once_and_used_again_when_it_is_back(
    server: Own, scores: ScoreStore
) -> None:
    server.kill()
    refused = [await refusal(call) for call in (scores.get([TENANT]), scores.publish([a_score(version=2)]))]
    await asyncio.to_thread(server.start_again)

    found = await eventually(lambda: attempt(scores), lambda found: not isinstance(found, Exception))

    assert [type(error) for error, _ in refused] == [StoreDown, StoreDown]
    assert max(lasted for _, lasted in refused) < POOL_S + SLACK_S
    assert found == {TENANT: a_score()}
    assert list(await scores.publish([a_score(version=2)])) == [True]


async def test_r9_a_frozen_server_holds_no_call_beyond_its_limit(server: Own, scores: ScoreStore) -> None:
    server.freeze()
    try:
        read, read_s = await refusal(scores.get([TENANT]))
        write, write_s = await refusal(scores.publish([a_score(version=2)]))
    finally:
        server.thaw()

    found = await eventually(lambda: attempt(scores), lambda found: not isinstance(found, Exception))

    assert [type(read), type(write)] == [StoreDown, StoreDown]
    assert read_s < SILENCE_S + SLACK_S
    assert write_s < SLACK_S / 10
    assert found in ({TENANT: a_score()}, {TENANT: a_score(version=2)})


async def test_a_publication_whose_server_freezes_may_have_been_stored(server: Own, scores: ScoreStore) -> None:
    server.freeze()
    try:
        refused, lasted = await refusal(scores.publish([a_score(version=2)]))
    finally:
        server.thaw()

    await eventually(lambda: attempt(scores), lambda found: not isinstance(found, Exception))

    assert isinstance(refused, OutcomeUnknown)
    assert lasted < SILENCE_S + SLACK_S
    # The same row again says what became of it.
    assert list(await scores.publish([a_score(version=2)])) == [True]


async def test_a_server_that_is_slow_to_answer_others_is_late_not_lost(server: Own, scores: ScoreStore) -> None:
    async with await AsyncConnection.connect(server.variables["POSTGRES_URI"]) as other:
        await other.execute("LOCK TABLE coherence_scores IN ACCESS EXCLUSIVE MODE")

        calls = [asyncio.create_task(refusal(scores.get([TENANT]))) for _ in range(CONNECTIONS)]
        await asyncio.wait(calls, timeout=0.1)
        without_connection, _ = await refusal(scores.get([TENANT]))
        held_up = [await call for call in calls]

    assert {type(refused) for refused, _ in [(without_connection, 0.0), *held_up]} == {StoreBusy}
    assert max(lasted for _, lasted in held_up) > SILENCE_S


async def test_a_caller_out_of_time_is_told_so_and_the_server_is_not_given_up(server: Own, scores: ScoreStore) -> None:
    async def hurried() -> tuple[CoherenceError, float]:
        impose(asyncio.get_running_loop().time() + 0.1)
        return await refusal(scores.get([TENANT]))

    async with await AsyncConnection.connect(server.variables["POSTGRES_URI"]) as other:
        await other.execute("LOCK TABLE coherence_scores IN ACCESS EXCLUSIVE MODE")
        refused = [await asyncio.create_task(hurried()) for _ in range(5)]
    found = await scores.get([TENANT])

    assert {type(error) for error, _ in refused} == {OutOfTime}
    assert max(lasted for _, lasted in refused) < SLACK_S
    assert found == {TENANT: a_score()}


async def test_a_caller_that_leaves_a_frozen_server_does_not_wait_for_it(server: Own, scores: ScoreStore) -> None:
    server.freeze()
    try:
        started = monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await scores.get([TENANT])
        lasted = monotonic() - started
    finally:
        server.thaw()

    assert lasted < SLACK_S


async def test_r9_a_server_that_fails_often_is_asked_only_now_and_then(server: Own, scores: ScoreStore) -> None:
    server.kill()
    calls = [asyncio.create_task(refusal(scores.get([TENANT]))) for _ in range(20)]
    first = [await call for call in calls]

    refused, lasted = await refusal(scores.get([TENANT]))

    assert all(isinstance(error, StoreDown) for error, _ in first)
    assert lasted < 0.1
    assert refused.retry_after_s is not None


async def test_a_closed_store_leaves_nothing_behind_while_its_server_is_frozen(server: Own) -> None:
    uri = server.variables["POSTGRES_URI"]
    await postgres.migrate(uri)
    before = asyncio.all_tasks()
    async with postgres.open_score_store(uri) as scores:
        await scores.get([TENANT])
        server.freeze()
        left = asyncio.create_task(refusal(scores.get([TENANT])))
        await asyncio.sleep(0)
    server.thaw()

    await left

    await tasks_end(before)


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        ({"password": SECRET}, SettingsInvalid, "refuses the user or the password"),
        ({"password": ""}, SettingsInvalid, "asks for a password"),
        ({"user": "nobody", "password": SECRET}, SettingsInvalid, "refuses the user or the password"),
        ({"dbname": "nowhere"}, SettingsInvalid, "no such database"),
        ({"port": "1", "password": SECRET}, StoreDown, "check that it runs"),
        ({"host": "nowhere.invalid", "password": SECRET}, StoreDown, "check that it runs"),
    ],
)
async def test_an_address_that_is_wrong_is_refused_with_what_is_wrong(
    schema: Schema, wrong: dict[str, str], kind: type[CoherenceError], says: str
) -> None:
    uri = make_conninfo(schema.uri, **wrong)

    async def opened() -> None:
        async with postgres.open_score_store(uri, namespace=schema.name):
            pass

    for call in (opened(), postgres.migrate(uri), postgres.pending(uri), postgres.rebuild(uri)):
        refused, lasted = await refusal(call)

        assert isinstance(refused, kind)
        assert says in refused.message
        assert SECRET not in f"{refused!r}{refused.__cause__!r}"
        assert lasted < CONNECT_S + SLACK_S


@pytest.mark.parametrize("uri", ["postgresql://a:don't tell@[::1/x", "not an address", "postgresql://a@h/d?no=such"])
async def test_what_is_no_address_is_refused_without_its_password(uri: str) -> None:
    refused, _ = await refusal(postgres.migrate(uri))

    assert isinstance(refused, SettingsInvalid)
    assert SECRET not in f"{refused!r}{refused.__cause__!r}"


async def test_a_schema_whose_name_would_need_quotes_is_refused(postgres_uri: str) -> None:
    refused, _ = await refusal(postgres.migrate(postgres_uri, namespace='x"; DROP TABLE y'))

    assert isinstance(refused, SettingsInvalid)
