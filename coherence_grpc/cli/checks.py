"""What `coherence doctor` looks at on this machine and at a running server."""

from __future__ import annotations

import re
import shutil
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final

from coherence_grpc.cli.output import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coherence.v1.meta_pb2 import GetServerInfoResponse
    from coherence_grpc.client import Client
    from coherence_grpc.config import Settings

LEAST_PYTHON: Final = (3, 11)
LEAST_FREE_BYTES: Final = 256 * 1024**2
MAX_SKEW_US: Final = 5_000_000
CONNECT_TIMEOUT_S: Final = 2.0
SERVICES: Final = ("IngestService", "ScoreService", "EventsService", "MetaService", "AdminService")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?:.*?>=\s*([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `ok` None is a remark, False a fault with the step that mends it."""

    name: str
    ok: bool | None
    found: str
    next_step: str = ""


def machine_checks(settings: Settings) -> Iterator[Check]:
    """Python, the packages, the data directory and the ports."""
    yield _python()
    yield _packages()
    yield _directory(settings.data)
    yield _port("gRPC port", settings.grpc)
    if settings.http is not None:
        yield _port("HTTP port", settings.http)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= LEAST_PYTHON
    return Check("python", ok, version, "" if ok else "install Python 3.11 or newer")


def _packages() -> Check:
    # What an extra asks for is nobody's fault when it isn't there.
    required = [text for text in metadata.requires("coherence") or () if "extra ==" not in text]
    wrong = [problem for text in required if (problem := _package_problem(text))]
    step = "install the locked set: pip install --require-hashes -r requirements/runtime.txt"
    return Check("packages", not wrong, "; ".join(wrong) or "as required", step if wrong else "")


def _package_problem(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    if match is None:
        return ""
    name, least = match.groups()
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is missing"
    return f"{name} {installed} is older than {least}" if least and _parts(installed) < _parts(least) else ""


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for part in version.split(".") if (digits := re.match(r"\d*", part)[0]))  # type: ignore[index]  # \d* always matches


def _directory(data: Path) -> Check:
    there = data
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return Check("data directory", ok=False, found=f"{there} is a file", next_step="choose another with --data")
    free = shutil.disk_usage(there).free
    found = f"{data}{'' if data.exists() else ' (not there yet)'}, {free / 1024**3:.1f} GiB free"
    if free < LEAST_FREE_BYTES:
        return Check("data directory", ok=False, found=found, next_step="make room on that disk")
    return Check("data directory", ok=True, found=found)


def _port(name: str, address: str) -> Check:
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(CONNECT_TIMEOUT_S)
            taken = probe.connect_ex(target) == 0
    except OSError as error:
        return Check(name, ok=False, found=f"{address}: {error.strerror}", next_step="choose another address")
    return Check(name, ok=None, found=f"{address} {'is in use' if taken else 'is free'}")


async def store_checks(settings: Settings) -> list[Check]:
    """The servers that the settings name, whether the service runs or not; none without them."""
    from coherence_grpc.app.diagnosis import diagnose

    return [Check(*finding) for finding in await diagnose(settings)]


async def server_checks(client: Client) -> list[Check]:
    """What a running server says of itself. Can't be reached: one fault."""
    import grpc.aio

    from coherence.v1.meta_pb2 import GetServerInfoRequest
    from coherence_grpc.cli.failure import refused
    from coherence_grpc.client import refusal_of

    try:
        info = await client.meta.GetServerInfo(GetServerInfoRequest())
    except grpc.aio.AioRpcError as error:
        failure = refused(refusal_of(error), client.address)
        return [Check("server", ok=False, found=failure.message, next_step=failure.next_step)]
    engines = ", ".join(f"{engine.role}: {engine.name}" for engine in info.engines)
    holds = f"{counted(info.tenant_count, 'tenant')}, {info.entry_count:,} log entries"
    found = f"{client.address}, profile {info.profile}, {holds}"
    return [
        Check("server", ok=True, found=f"{found} ({engines})"),
        _versions(info),
        _clock(info),
        _switches(info),
        await _health(client),
        _subgraph(info.http_address),
    ]


def _versions(info: GetServerInfoResponse) -> Check:
    own = metadata.version("coherence")
    same = info.version == own
    step = "" if same else "run the command of the server's version"
    return Check("version", same, f"server {info.version}, command {own}", step)


def _clock(info: GetServerInfoResponse) -> Check:
    from coherence_grpc.adapters.embedded import SystemClock
    from coherence_grpc.cli.instants import micros, render

    now = micros(info.clock.now_time)
    if info.clock.simulated:
        return Check("clock", ok=None, found=f"simulated: {render(now)}, at {info.clock.speed:g}×")
    skew = now - SystemClock().now()
    close = abs(skew) <= MAX_SKEW_US
    step = "" if close else "set both machines' clocks (NTP)"
    return Check("clock", close, f"{render(now)}, {skew / 1e6:+.3f} s from this machine", step)


def _switches(info: GetServerInfoResponse) -> Check:
    values = {switch.name: switch.value for switch in info.switches}
    found = ", ".join(f"{name} {value}" for name, value in values.items())
    if values.get("materialiser") == "off":
        return Check(
            "switches", ok=None, found=found, next_step="`coherence switch materialiser on` publishes scores again"
        )
    return Check("switches", ok=True, found=found)


async def _health(client: Client) -> Check:
    import grpc.aio
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    serving: list[str] = []
    other: list[str] = []
    for service in SERVICES:
        try:
            answer = await client.health.Check(HealthCheckRequest(service=f"coherence.v1.{service}"))
            word = HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.aio.AioRpcError as error:
            word = error.code().name
        (serving if word == "SERVING" else other).append(f"{service} {word}")
    step = "see the server's log" if other else ""
    return Check("health", not other, ", ".join(other) or f"{len(serving)} services serving", step)


def _subgraph(address: str) -> Check:
    if not address:
        return Check("subgraph", ok=None, found="none runs beside this server")
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return Check("subgraph", ok=False, found=f"{address}: {error.strerror}", next_step="see the server's log")
    return Check("subgraph", ok=True, found=f"http://{address}/graphql")
