"""What is found of servers: clocks that are off in either direction, and whatever goes wrong while asking."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from coherence_grpc.adapters import postgres
from coherence_grpc.adapters.embedded import SystemClock
from coherence_grpc.app import diagnosis
from coherence_grpc.app.diagnosis import diagnose
from coherence_grpc.config import load_settings
from coherence_grpc.model import SECOND
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, neo4j_auth, postgres_uri, redis_url
from tests.backends.ports import free_port
from tests.faultproxy import fault_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coherence_grpc.app.diagnosis import Finding

pytestmark = pytest.mark.anyio

LATENCY_S: Final = 0.2
SILENCE_S: Final = 20.0


def neo4j_address() -> Mapping[str, str]:
    auth = neo4j_auth()
    return {"NEO4J_URI": auth.uri, "NEO4J_USER": auth.user, "NEO4J_PASSWORD": auth.password}


ADDRESSES: Final[Mapping[str, Callable[[], Mapping[str, str]]]] = {
    "PostgreSQL": lambda: {"POSTGRES_URI": postgres_uri()},
    "Redis": lambda: {"REDIS_URL": redis_url()},
    "Neo4j": neo4j_address,
}
each_server = pytest.mark.parametrize(
    "server",
    [
        pytest.param("PostgreSQL", marks=POSTGRES),
        pytest.param("Redis", marks=REDIS),
        pytest.param("Neo4j", marks=NEO4J),
    ],
)


async def clock_of(server: str, environment: Mapping[str, str], ahead_s: float) -> Finding:
    """What is found of the server's clock by a machine whose own is so far ahead."""
    system = SystemClock()
    settings = load_settings({}, environment)
    findings = await diagnose(settings, lambda: system.now() + round(ahead_s * SECOND))
    (found,) = [finding for finding in findings if finding.name == f"{server} clock"]
    return found


@each_server
@pytest.mark.parametrize("ahead_s", [0, 4.5, -4.5, 5.5, -5.5, 3600])
async def test_a_clock_more_than_5_seconds_off_is_a_fault_in_both_directions(server: str, ahead_s: float) -> None:
    finding = await clock_of(server, ADDRESSES[server](), ahead_s)

    assert finding.ok == (abs(ahead_s) <= 5)
    said = float(finding.found.partition(" s from this machine")[0])
    assert said == pytest.approx(-ahead_s, abs=0.4)
    assert finding.next_step == ("" if finding.ok else "set both machines' clocks (NTP)")


@POSTGRES
@pytest.mark.parametrize(("ahead_s", "ok"), [(5.1, True), (-5.1, True), (6.5, False), (-6.5, False)])
async def test_what_the_way_to_the_server_takes_is_not_laid_to_its_clock(ahead_s: float, ok: bool) -> None:
    parts = urlsplit(postgres_uri())
    assert parts.port is not None
    async with fault_proxy(parts.port) as proxy:
        proxy.delay(LATENCY_S)
        there = parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}"))

        finding = await clock_of("PostgreSQL", {"POSTGRES_URI": urlunsplit(there)}, ahead_s)

    assert finding.ok is ok, finding


async def test_nothing_is_found_where_no_server_is_named() -> None:
    assert await diagnose(load_settings({}, {})) == []


async def test_servers_that_are_not_there_are_a_fault_each_and_nothing_is_raised() -> None:
    environment = {
        "NEO4J_URI": f"bolt://127.0.0.1:{free_port()}",
        "NEO4J_PASSWORD": "of-nobody",
        "POSTGRES_URI": f"postgresql://somebody:of-nobody@127.0.0.1:{free_port()}/scores",
        "REDIS_URL": f"redis://:of-nobody@127.0.0.1:{free_port()}/0",
    }

    findings = await diagnose(load_settings({}, environment))

    assert [(finding.name, finding.ok) for finding in findings] == [
        ("Neo4j", False),
        ("PostgreSQL", False),
        ("Redis", False),
    ]
    assert [finding.next_step for finding in findings if not finding.next_step] == []
    assert "of-nobody" not in str(findings)


async def test_servers_that_take_connections_and_never_answer_are_a_fault_each_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        environment = {
            "NEO4J_URI": f"bolt://127.0.0.1:{port}",
            "NEO4J_PASSWORD": "of-nobody",
            "POSTGRES_URI": f"postgresql://somebody:of-nobody@127.0.0.1:{port}/scores",
            "REDIS_URL": f"redis://:of-nobody@127.0.0.1:{port}/0",
        }

        async with asyncio.timeout(SILENCE_S):
            findings = await diagnose(load_settings({}, environment))

    assert [(finding.name, finding.ok) for finding in findings] == [
        ("Neo4j", False),
        ("PostgreSQL", False),
        ("Redis", False),
    ]
    assert "of-nobody" not in str(findings)


async def test_a_driver_that_fails_as_nobody_foresaw_is_a_finding_without_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> tuple[int, int, int]:
        words = "of-nobody"
        raise RuntimeError(words)

    monkeypatch.setattr(postgres, "read_clock", fail)

    (finding,) = await diagnosis.diagnose(load_settings({}, {"POSTGRES_URI": "postgresql://a:of-nobody@127.0.0.1/b"}))

    assert (finding.name, finding.ok) == ("PostgreSQL", False)
    assert "RuntimeError" in finding.found
    assert "of-nobody" not in str(finding)
