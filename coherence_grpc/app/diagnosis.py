"""What is wrong with the servers that the settings name, one by one; the service need not run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.embedded import SystemClock
from coherence_grpc.errors import CoherenceError
from coherence_grpc.model import SECOND

if TYPE_CHECKING:
    from coherence_grpc.config import Settings

Wall = Callable[[], int]
MAX_SKEW_US: Final = 5_000_000
MIGRATE: Final = "run `coherence migrate up`"
SET_CLOCKS: Final = "set both machines' clocks (NTP)"


class Finding(NamedTuple):
    """One server and what was looked at: `ok` None was not looked at, False is a fault with the step that mends it."""

    name: str
    ok: bool | None
    found: str
    next_step: str = ""


class _Server(NamedTuple):
    """How one is asked; `pending` is None where there is no schema."""

    name: str
    address: str
    read_clock: Callable[[], Awaitable[tuple[int, int, int]]]
    pending: Callable[[], Awaitable[Sequence[str]]] | None
    check_writes: Callable[[], Awaitable[None]]


async def diagnose(settings: Settings, wall: Wall | None = None) -> Sequence[Finding]:
    """What is found, server by server: it answers, its clock (against `wall`), its schema, and writing to it.

    A server that does not answer is one finding. Raises nothing: whatever goes wrong is a finding.
    """
    servers = _servers(settings, wall or SystemClock().now)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_diagnose(server)) for server in servers]
    return [finding for task in tasks for finding in task.result()]


async def _diagnose(server: _Server) -> Sequence[Finding]:
    findings: list[Finding] = []

    async def clock() -> Sequence[Finding]:
        return _on_clock(server, *await server.read_clock())

    async def schema() -> Sequence[Finding]:
        return [_on_schema(server, await server.pending())] if server.pending else []

    async def writes() -> Sequence[Finding]:
        await server.check_writes()
        return [Finding(f"{server.name} writes", ok=True, found="this user can do what the service does")]

    for name, look in ((server.name, clock), (f"{server.name} schema", schema), (f"{server.name} writes", writes)):
        made = await _told(name, server.address, look)
        findings += made
        if look is not writes and any(finding.ok is False for finding in made if finding.name == name):
            # What comes next would only say the same again.
            break
    return findings


async def _told(name: str, address: str, look: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    try:
        return await look()
    except CoherenceError as refused:
        problem, _, step = refused.message.partition("; ")
        return [Finding(name, ok=False, found=f"{address}: {problem}", next_step=step)]
    except Exception as error:  # noqa: BLE001 - whoever asks what is wrong gets an answer, whatever a driver does
        # Not its words, which may hold a password.
        found = f"{address}: {type(error).__name__} while looking at it"
        return [Finding(name, ok=False, found=found, next_step="see the log of that server")]


def _on_clock(server: _Server, asked: int, answered: int, there: int) -> Sequence[Finding]:
    """The server's clock was read at some instant between the two, so its error is known to half of what lies between.

    A fault only when it is certain: a slow network is none of the clock's.
    """
    trip = answered - asked
    skew = there - (asked + answered) / 2
    close = abs(skew) - trip / 2 <= MAX_SKEW_US
    found = f"{skew / SECOND:+.3f} s from this machine, within {trip / 2 / SECOND:.3f} s"
    return [
        Finding(server.name, ok=True, found=f"{server.address}, answers in {trip / 1000:.1f} ms"),
        Finding(f"{server.name} clock", close, found, "" if close else SET_CLOCKS),
    ]


def _on_schema(server: _Server, pending: Sequence[str]) -> Finding:
    if pending:
        return Finding(f"{server.name} schema", ok=False, found=f"lacks {', '.join(pending)}", next_step=MIGRATE)
    return Finding(f"{server.name} schema", ok=True, found="up to date")


def _servers(settings: Settings, wall: Wall) -> Sequence[_Server]:
    shown = {name: value for name, value, _ in settings.rows()}
    servers = []
    if settings.neo4j_uri is not None:
        servers.append(_neo4j(settings.neo4j_uri, settings, shown["neo4j_uri"], wall))
    if settings.postgres_uri is not None:
        servers.append(_postgres(settings.postgres_uri, shown["postgres_uri"], wall))
    if settings.redis_url is not None:
        servers.append(_redis(settings.redis_url, shown["redis_url"], wall))
    return servers


def _neo4j(uri: str, settings: Settings, address: str, wall: Wall) -> _Server:
    from coherence_grpc.adapters import neo4j

    login = uri, settings.neo4j_user, settings.neo4j_password or ""
    return _Server(
        "Neo4j",
        address,
        lambda: neo4j.read_clock(*login, wall),
        lambda: neo4j.pending(*login),
        lambda: neo4j.check_writes(*login),
    )


def _postgres(uri: str, address: str, wall: Wall) -> _Server:
    from coherence_grpc.adapters import postgres

    return _Server(
        "PostgreSQL",
        address,
        lambda: postgres.read_clock(uri, wall),
        lambda: postgres.pending(uri),
        lambda: postgres.check_writes(uri),
    )


def _redis(url: str, address: str, wall: Wall) -> _Server:
    from coherence_grpc.adapters import redis

    return _Server("Redis", address, lambda: redis.read_clock(url, wall), None, lambda: redis.check(url))
