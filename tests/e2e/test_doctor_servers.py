"""`coherence doctor` on servers with something wrong: it says what, names the next step, and never a password."""

from __future__ import annotations

import json
import socket
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import pytest
from neo4j import AsyncGraphDatabase
from psycopg import AsyncConnection

from coherence_grpc.adapters import postgres
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, an_own_server, emptied, neo4j_auth, postgres_uri, redis_url
from tests.conformance.sharing_redis import asking
from tests.e2e.on_servers import fresh_database, fresh_servers, migrated
from tests.serving import serving, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECRET: Final = "s3cret-of-nobody"  # noqa: S105 - of nobody
MIGRATE: Final = "run `coherence migrate up`"
KINDS: Final = (" clock", " schema", " writes")


class Seen(NamedTuple):
    """What doctor found of the servers, by name, and how it ended."""

    checks: Mapping[str, Any]
    exit_code: int

    @property
    def faults(self) -> list[str]:
        return [name for name, one in self.checks.items() if one["ok"] is False]


async def doctor(environment: Mapping[str, str], directory: Path, *, grpc: str = "127.0.0.1:1") -> Seen:
    """Its findings on the servers; no password of an address is among its words."""
    arguments = ("doctor", "--json", "--data", str(directory), "--address", grpc)
    said = await spoken(*arguments, environment=environment)
    passwords = {urlsplit(value).password for value in environment.values()} | {environment.get("NEO4J_PASSWORD")}
    assert "Traceback" not in said.stdout + said.stderr
    assert [word for word in passwords if word and word in said.stdout + said.stderr] == []
    checks = {one["check"]: one for one in map(json.loads, said.stdout.splitlines())}
    named = {name: one for name, one in checks.items() if name.split()[0] in {"Neo4j", "PostgreSQL", "Redis"}}
    return Seen(named, said.exit_code)


def with_password(uri: str, password: str) -> str:
    parts = urlsplit(uri)
    netloc = f"{parts.username or ''}:{password}@{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=netloc))


def with_port(uri: str, port: int) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")))


@pytest.fixture
def port() -> Iterator[int]:
    """Nobody listens on it, and while it is bound nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def neo4j_of(uri: str, user: str, password: str) -> dict[str, str]:
    return {"NEO4J_URI": uri, "NEO4J_USER": user, "NEO4J_PASSWORD": password}


async def give_roles(uri: str) -> None:
    """Apply roles.sql. A role is the whole server's, and what keeps two from making it holds in one database."""
    async with (
        await AsyncConnection.connect(postgres_uri()) as shared,
        await AsyncConnection.connect(uri) as connection,
    ):
        await shared.execute("SELECT pg_advisory_xact_lock(hashtextextended('coherence roles', 0))")
        await connection.execute((files(postgres) / "roles.sql").read_bytes())
        await connection.commit()


@pytest.mark.parametrize("marked", [pytest.param("", marks=[POSTGRES, REDIS, *NEO4J])])
async def test_doctor_finds_the_servers_well_and_leaves_nothing_there(marked: str, tmp_path: Path) -> None:
    async with fresh_servers() as servers:
        async with serving(tmp_path, environment=servers, http=False) as served:
            seen = await doctor(servers, tmp_path, grpc=served.grpc)
        alone = await doctor(servers, tmp_path)
        async with await AsyncConnection.connect(servers["POSTGRES_URI"]) as connection:
            rows = await (await connection.execute("SELECT count(*) FROM coherence_scores")).fetchone()
        async with AsyncGraphDatabase.driver(
            servers["NEO4J_URI"], auth=(servers["NEO4J_USER"], servers["NEO4J_PASSWORD"])
        ) as driver:
            nodes = (await driver.execute_query("MATCH (n) RETURN count(n)")).records[0][0]

    expected = [f"{server}{kind}" for server in ("Neo4j", "PostgreSQL") for kind in ("", *KINDS)]
    assert list(seen.checks) == [*expected, "Redis", "Redis clock", "Redis writes"]
    assert (seen.faults, seen.exit_code) == ([], 0)
    # The one fault is the service, which does not run; the servers are looked at all the same.
    assert (list(alone.checks), alone.faults, alone.exit_code) == (list(seen.checks), [], 1)
    assert (rows, nodes) == ((0,), 1)


@POSTGRES
async def test_doctor_names_a_wrong_password_of_postgresql(tmp_path: Path) -> None:
    seen = await doctor({"POSTGRES_URI": with_password(postgres_uri(), SECRET)}, tmp_path)

    assert (list(seen.checks), seen.faults, seen.exit_code) == (["PostgreSQL"], ["PostgreSQL"], 1)
    assert "the server refuses the user or the password" in seen.checks["PostgreSQL"]["found"]
    assert seen.checks["PostgreSQL"]["next_step"] == "correct both in POSTGRES_URI"


@POSTGRES
async def test_doctor_names_a_wrong_port_of_postgresql(port: int, tmp_path: Path) -> None:
    seen = await doctor({"POSTGRES_URI": with_port(postgres_uri(), port)}, tmp_path)

    assert (list(seen.checks), seen.exit_code) == (["PostgreSQL"], 1)
    assert f":{port}" in seen.checks["PostgreSQL"]["found"]
    assert "can't be reached" in seen.checks["PostgreSQL"]["found"]
    assert seen.checks["PostgreSQL"]["next_step"] == "check that it runs and that POSTGRES_URI names it"


@POSTGRES
async def test_doctor_names_a_pending_migration_of_postgresql(tmp_path: Path) -> None:
    async with fresh_database(postgres_uri()) as uri:
        seen = await doctor({"POSTGRES_URI": uri}, tmp_path)

    assert (seen.faults, seen.exit_code) == (["PostgreSQL schema"], 1)
    assert "0001_scores" in seen.checks["PostgreSQL schema"]["found"]
    assert seen.checks["PostgreSQL schema"]["next_step"] == MIGRATE


@POSTGRES
@pytest.mark.parametrize(
    ("taken", "lacking"),
    [
        ("", ""),
        ("REVOKE INSERT ON coherence_scores FROM coherence_app", "lacks INSERT on coherence_scores"),
        ("REVOKE UPDATE ON coherence_scores FROM coherence_app", "lacks UPDATE on coherence_scores"),
        ("REVOKE DELETE ON coherence_score_history FROM coherence_app", "lacks DELETE on coherence_score_history"),
        # Rights alone don't tell: a policy refuses the very row.
        ("ALTER TABLE coherence_scores ENABLE ROW LEVEL SECURITY", "lacks a right it needs"),
    ],
)
async def test_doctor_names_the_rights_that_a_user_of_postgresql_lacks(
    taken: str, lacking: str, tmp_path: Path
) -> None:
    async with fresh_database(postgres_uri()) as uri:
        await migrated({"POSTGRES_URI": uri})
        await give_roles(uri)
        async with await AsyncConnection.connect(uri, autocommit=True) as connection:
            await connection.execute(taken.encode())
        running = f"{uri}?options=-c%20role%3Dcoherence_app"

        seen = await doctor({"POSTGRES_URI": running}, tmp_path)

    assert (seen.faults, seen.exit_code) == (["PostgreSQL writes"] if lacking else [], 1)
    assert lacking in seen.checks["PostgreSQL writes"]["found"]
    assert ("roles.sql" in seen.checks["PostgreSQL writes"]["next_step"]) == bool(lacking)


@POSTGRES
async def test_doctor_names_a_postgresql_that_can_only_be_read(tmp_path: Path) -> None:
    async with fresh_database(postgres_uri()) as uri:
        await migrated({"POSTGRES_URI": uri})

        seen = await doctor({"POSTGRES_URI": f"{uri}?options=-c%20default_transaction_read_only%3Don"}, tmp_path)

    assert (seen.faults, seen.exit_code) == (["PostgreSQL writes"], 1)
    assert seen.checks["PostgreSQL writes"]["next_step"] == "name the primary server in POSTGRES_URI"


@pytest.mark.parametrize("marked", [pytest.param("", marks=NEO4J)])
async def test_doctor_names_a_wrong_password_a_wrong_port_and_a_pending_migration_of_neo4j(
    marked: str, port: int, tmp_path: Path
) -> None:
    auth = await emptied(neo4j_auth())
    password = await doctor(neo4j_of(auth.uri, auth.user, SECRET), tmp_path)
    elsewhere = await doctor(neo4j_of(with_port(auth.uri, port), auth.user, auth.password), tmp_path)
    behind = await doctor(neo4j_of(*auth), tmp_path)

    assert [list(seen.checks) for seen in (password, elsewhere)] == [["Neo4j"]] * 2
    assert [seen.exit_code for seen in (password, elsewhere, behind)] == [1] * 3
    assert "refuses the user or the password" in password.checks["Neo4j"]["found"]
    assert password.checks["Neo4j"]["next_step"] == "correct NEO4J_USER and NEO4J_PASSWORD"
    assert f"bolt://127.0.0.1:{port}: " in elsewhere.checks["Neo4j"]["found"]
    assert elsewhere.checks["Neo4j"]["next_step"] == "check that it runs and that NEO4J_URI names it"
    assert behind.faults == ["Neo4j schema"]
    assert behind.checks["Neo4j schema"]["next_step"] == MIGRATE


@REDIS
async def test_doctor_names_a_wrong_password_and_a_wrong_port_of_redis(port: int, tmp_path: Path) -> None:
    password = await doctor({"REDIS_URL": with_password(redis_url(), SECRET)}, tmp_path)
    elsewhere = await doctor({"REDIS_URL": with_port(redis_url(), port)}, tmp_path)

    assert [(list(seen.checks), seen.exit_code) for seen in (password, elsewhere)] == [(["Redis"], 1)] * 2
    assert "refuses user or password" in password.checks["Redis"]["found"]
    assert password.checks["Redis"]["next_step"] == "check REDIS_URL"
    assert f":{port}" in elsewhere.checks["Redis"]["found"]
    assert "can't be reached" in elsewhere.checks["Redis"]["found"]


@REDIS
async def test_doctor_names_a_redis_that_is_read_only(port: int, tmp_path: Path) -> None:
    with an_own_server("redis") as own:
        url = own.variables["REDIS_URL"]
        async with asking(url) as ask:
            await ask("REPLICAOF", "127.0.0.1", str(port))

        seen = await doctor({"REDIS_URL": url}, tmp_path)

    assert (seen.faults, seen.exit_code) == (["Redis writes"], 1)
    assert "is read-only" in seen.checks["Redis writes"]["found"]
    assert seen.checks["Redis writes"]["next_step"] == "name the primary in REDIS_URL"


async def test_doctor_for_people_shows_a_fault_and_the_step_that_mends_it(port: int, tmp_path: Path) -> None:
    uri = f"postgresql://somebody:{SECRET}@127.0.0.1:{port}/scores"

    said = await spoken(
        "doctor",
        "--data",
        str(tmp_path),
        "--address",
        "127.0.0.1:1",
        environment={"POSTGRES_URI": uri, "COLUMNS": "200"},
    )

    (line,) = [line for line in said.stdout.splitlines() if "PostgreSQL" in line]
    assert line.startswith("FAULT")
    assert "check that it runs and that POSTGRES_URI names it" in line
    assert (SECRET in said.stdout + said.stderr, said.exit_code) == (False, 1)
