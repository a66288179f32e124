"""The rules by which a tenant is scored, and how they are changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from coherence.v1 import score_pb2 as pb
from coherence_grpc.client.instants import duration, maybe_instant, span
from coherence_grpc.client.model import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

CapStatus = Literal[Status.WARN, Status.CRITICAL]


@dataclass(frozen=True, slots=True)
class Veto:
    """A signal of this type with a value below `below` makes `cap_status` the best status possible."""

    type: str
    below: float
    cap_status: CapStatus


@dataclass(frozen=True, slots=True)
class ScorePolicy:
    """The rules in force for a tenant; `etag` names this version, `default` is that of a tenant without a policy."""

    tenant_id: str
    etag: str
    seq: int
    update_time: datetime | None
    window: timedelta
    half_life: timedelta | None
    healthy_threshold: float
    warn_threshold: float
    hysteresis: float
    dwell: timedelta
    minimum_signals: int
    stale_after: timedelta | None
    source_share_cap: float | None
    vetoes: tuple[Veto, ...] = ()
    type_weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


class PolicyChanges(TypedDict, total=False):
    """The rules to change; None sets one back to its default."""

    window: timedelta | None
    half_life: timedelta | None
    healthy_threshold: float | None
    warn_threshold: float | None
    hysteresis: float | None
    dwell: timedelta | None
    minimum_signals: int | None
    stale_after: timedelta | None
    source_share_cap: float | None
    vetoes: Sequence[Veto] | None
    type_weights: Mapping[str, float] | None


_SPANS: Final = frozenset({"window", "half_life", "dwell", "stale_after"})


def policy_message(changes: PolicyChanges) -> pb.ScorePolicy:
    """The rules that are set, as a message."""
    given = {name: value for name, value in changes.items() if value is not None}
    spans = {name: duration(given.pop(name)) for name in _SPANS & given.keys()}  # type: ignore[arg-type]  # timedeltas
    vetoes = given.pop("vetoes", ())
    message = pb.ScorePolicy(**given, **spans)  # type: ignore[arg-type]  # the names and types of PolicyChanges
    for veto in vetoes:  # type: ignore[attr-defined]  # Sequence[Veto]
        message.vetoes.add(type=veto.type, below=veto.below, cap_status=pb.Status.Value(f"STATUS_{veto.cap_status}"))
    return message


def policy_of(message: pb.ScorePolicy) -> ScorePolicy:
    """A complete policy, as the server sends it."""
    return ScorePolicy(
        tenant_id=message.tenant_id,
        etag=message.etag,
        seq=message.seq,
        update_time=maybe_instant(message.update_time),
        window=span(message.window),
        half_life=span(message.half_life) if message.HasField("half_life") else None,
        healthy_threshold=message.healthy_threshold,
        warn_threshold=message.warn_threshold,
        hysteresis=message.hysteresis,
        dwell=span(message.dwell),
        minimum_signals=message.minimum_signals,
        stale_after=span(message.stale_after) if message.HasField("stale_after") else None,
        source_share_cap=message.source_share_cap if message.HasField("source_share_cap") else None,
        vetoes=tuple(map(_veto_of, message.vetoes)),
        type_weights=MappingProxyType(dict(message.type_weights)),
    )


def _veto_of(message: pb.Veto) -> Veto:
    cap: CapStatus = Status.WARN if message.cap_status == pb.STATUS_WARN else Status.CRITICAL
    return Veto(message.type, message.below, cap)
