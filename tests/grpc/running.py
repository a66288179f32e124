"""A real backbone in this process, on a real port, and short ways to call it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from coherence.v1 import ingest_pb2, score_pb2, signal_pb2
from coherence_grpc.app import Backbone, open_backbone
from coherence_grpc.client import Client, Refusal, connect, refusal_of, refusal_of_status
from coherence_grpc.config import edit_switches, load_settings
from coherence_grpc.convert.instants import timestamp
from tests.builders import TENANT, ManualClock, fresh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class World:
    """A backbone whose clock stands still, and a client of it."""

    backbone: Backbone
    client: Client
    clock: ManualClock
    data: Path

    def turn(self, **switches: str) -> None:
        """Turn runtime switches, as `coherence switch` does, and have them read at once."""
        edit_switches(self.data / "runtime.json", switches)
        self.backbone.runtime.reload()

    async def publish(self, *signals: signal_pb2.Signal, tenant_id: str = TENANT) -> list[str]:
        """Publish the signals (one fresh one if none is named); what became of each, by outcome or reason."""
        request = ingest_pb2.PublishSignalsRequest(tenant_id=tenant_id, signals=signals or [a_signal()])
        reply = await self.client.ingest.PublishSignals(request)
        return [
            refusal_of_status(result.error).reason
            if result.HasField("error")
            else ingest_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")
            for result in reply.results
        ]

    async def score(
        self, tenant_id: str = TENANT, *, as_of: int | None = None, seen: signal_pb2.Revision | None = None
    ) -> score_pb2.Score:
        """The tenant's score, as of an instant (microseconds), or with at least the revision seen."""
        request = score_pb2.GetScoreRequest(
            tenant_id=tenant_id,
            as_of_time=None if as_of is None else timestamp(as_of),
            consistency=None if seen is None else score_pb2.Consistency(at_least_as_fresh=seen),
        )
        return (await self.client.score.GetScore(request)).score


@asynccontextmanager
async def world(data: Path, *, clock: ManualClock | None = None, **flags: object) -> AsyncIterator[World]:
    """A served data directory and a client that is connected to it."""
    clock = clock or ManualClock()
    settings = load_settings({"data": data, "grpc": "127.0.0.1:0", **flags}, {})
    async with open_backbone(settings, clock=clock) as backbone, connect(backbone.grpc_address) as client:
        yield World(backbone, client, clock, data)


def a_signal(
    *,
    signal_id: str | None = None,
    source: str = "ci",
    type: str = "build",  # noqa: A002 - the domain's word
    value: float | None = 0.8,
    weight: float | None = None,
    ts: int | None = None,
    tenant_id: str = "",
) -> signal_pb2.Signal:
    """A signal as a caller sends it; its signal_id is fresh unless named, ts (microseconds) is left out."""
    return signal_pb2.Signal(
        tenant_id=tenant_id,
        source=source,
        signal_id=fresh("signal") if signal_id is None else signal_id,
        type=type,
        value=value,
        weight=weight,
        ts=None if ts is None else timestamp(ts),
    )


async def refused(call: Awaitable[object]) -> Refusal:
    """What the call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


def raw(served: World, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A unary method by its name, on bytes."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = served.client.channel.unary_unary(f"/coherence.v1.{method}")
    return call


def raw_stream(served: World, method: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
    """A streaming method by its name, on bytes."""
    call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
    call = served.client.channel.unary_stream(f"/coherence.v1.{method}")
    return call


@asynccontextmanager
async def unaware(served: Client) -> AsyncIterator[grpc.aio.Channel]:
    """A channel that neither watches the health nor tries again."""
    async with grpc.aio.insecure_channel(served.address, options=(("grpc.enable_retries", 0),)) as channel:
        yield channel
