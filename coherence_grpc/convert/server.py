"""What the server says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coherence.v1 import meta_pb2 as pb
from coherence_grpc.convert.instants import duration, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.ports import Clock, Retained


class Part(NamedTuple):
    """A part in use: what it does, which one it is, its version."""

    role: str
    name: str
    version: str


class Limits(NamedTuple):
    """What the server accepts."""

    max_batch_signals: int
    max_batch_bytes: int
    max_message_bytes: int
    max_batch_tenants: int
    max_ts_ahead_s: float
    max_deadline_s: float


class Facts(NamedTuple):
    """What does not change while the server runs."""

    version: str
    commit: str
    profile: str
    capabilities: Sequence[str]
    limits: Limits
    parts: Sequence[Part]


def server_info(
    facts: Facts,
    clock: Clock,
    retained: Retained,
    *,
    switches: Mapping[str, str],
    runtime_hash: str,
    http_address: str,
) -> pb.GetServerInfoResponse:
    """Everything about the server."""
    limits = facts.limits
    return pb.GetServerInfoResponse(
        version=facts.version,
        commit=facts.commit,
        profile=facts.profile,
        capabilities=facts.capabilities,
        limits=pb.Limits(
            max_batch_signals=limits.max_batch_signals,
            max_batch_bytes=limits.max_batch_bytes,
            max_message_bytes=limits.max_message_bytes,
            max_batch_tenants=limits.max_batch_tenants,
            max_ts_ahead=duration(limits.max_ts_ahead_s),
            max_deadline=duration(limits.max_deadline_s),
        ),
        clock=pb.ServerClock(now_time=timestamp(clock.now()), speed=clock.speed, simulated=clock.simulated),
        engines=[pb.Engine(role=part.role, name=part.name, version=part.version) for part in facts.parts],
        switches=[pb.RuntimeSwitch(name=name, value=value) for name, value in switches.items()],
        runtime_hash=runtime_hash,
        oldest_signal_time=None if retained.oldest_ts is None else timestamp(retained.oldest_ts),
        tenant_count=retained.tenants,
        entry_count=retained.entries,
        http_address=http_address,
    )
