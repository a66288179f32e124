"""The gRPC server: how it listens, what it says about its health, how it ends."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from coherence_grpc.convert.calls import CONNECTION_AGE_S, CONNECTION_GRACE_S
from coherence_grpc.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from coherence_grpc.interceptors import Pool, Registry

SERVICES: Final = (
    "coherence.v1.IngestService",
    "coherence.v1.ScoreService",
    "coherence.v1.EventsService",
    "coherence.v1.MetaService",
    "coherence.v1.AdminService",
)
# Above our own limit, which answers with a reason.
CORE_MESSAGE_BYTES: Final = 16 * 1024 * 1024
# How long clients have to notice that we are going, and calls to end by themselves.
NOTICE_S: Final = 3.0
GRACE_S: Final = 10.0
LINGER_S: Final = 0.1
# How often what a service cannot do without is asked whether it is there.
LOOK_S: Final = 1.0
_POLL_S: Final = 0.02

OPTIONS: Final[tuple[tuple[str, Any], ...]] = (  # what grpc takes as channel arguments
    # On by default, it lets a second server bind the same port without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_receive_message_length", CORE_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", int(CONNECTION_AGE_S * 1000)),
    ("grpc.max_connection_age_grace_ms", int(CONNECTION_GRACE_S * 1000)),
)


def check_free(name: str, address: str) -> None:
    """Return when the address of the setting can be listened on; who does so itself would say why not less clearly.

    Raises:
        SettingsInvalid: it can't.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else "it is no address of this machine"
        message = f"{name}: {address}: {why}; choose another address with --{name} (port 0: a free one)"
        raise SettingsInvalid(message) from error


def bind(address: str) -> tuple[grpc.aio.Server, str]:
    """A server that holds the address, and the address with its real port; it answers once it is started.

    Raises:
        SettingsInvalid: the address can't be had.
    """
    check_free("grpc", address)
    server = grpc.aio.server(options=OPTIONS)
    try:
        return server, f"{address.rpartition(':')[0]}:{server.add_insecure_port(address)}"
    except RuntimeError as error:
        message = f"grpc: {address} was taken at this moment; choose another address with --grpc (port 0: a free one)"
        raise SettingsInvalid(message) from error


@asynccontextmanager
async def answering(
    server: grpc.aio.Server,
    registry: Registry,
    pools: Mapping[str, Pool],
    *,
    reflection: bool,
    drain: Callable[[], None],
    alive: Mapping[str, Callable[[], Awaitable[bool]]],
) -> AsyncIterator[None]:
    """The server answers; on leaving it drains.

    A service of `alive` says NOT_SERVING while it is not; the others, and the server as a whole, go on.

    Draining says NOT_SERVING, gives those who are connected 3 s to go elsewhere, refuses new calls, calls `drain` so
    that streams end with a cursor, and gives what is left 10 s.
    """
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc_health has no types
    registry.add(add_HealthServicer_to_server, checks)
    if reflection:
        _reflect(server)
    for service in SERVICES:
        await checks.set(service, HealthCheckResponse.SERVING)
    await server.start()
    following = asyncio.create_task(_follow(checks, alive), name="health")
    try:
        yield
    finally:
        following.cancel()
        await checks.enter_graceful_shutdown()
        await _idle(pools, NOTICE_S)
        registry.close()
        drain()
        # gRPC cancels what arrives while it stops, without a word: callers should have heard of it from us before.
        await asyncio.sleep(LINGER_S)
        await _idle(pools, GRACE_S)
        await server.stop(GRACE_S)


async def _follow(
    checks: Any,  # noqa: ANN401 - grpc_health has no types
    alive: Mapping[str, Callable[[], Awaitable[bool]]],
) -> None:
    while alive:
        await asyncio.sleep(LOOK_S)
        for service, ask in alive.items():
            status = HealthCheckResponse.SERVING if await ask() else HealthCheckResponse.NOT_SERVING
            await checks.set(service, status)


def _reflect(server: grpc.aio.Server) -> None:
    from grpc_reflection.v1alpha.reflection import SERVICE_NAME, enable_server_reflection

    names = (*SERVICES, "grpc.health.v1.Health", SERVICE_NAME)
    enable_server_reflection(names, server)  # type: ignore[no-untyped-call]  # grpc_reflection has no types


async def _idle(pools: Mapping[str, Pool], at_most_s: float) -> None:
    """Return when no call is in flight; every client of ours that is connected watches the health."""
    loop = asyncio.get_running_loop()
    until = loop.time() + at_most_s
    while any(pool.in_flight for pool in pools.values()) and loop.time() < until:  # noqa: ASYNC110 - see below
        # The pools are plain counters: an event would cost every call more than this costs once.
        await asyncio.sleep(_POLL_S)
