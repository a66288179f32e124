"""How soon a process knows what another one stored: told by a doorbell, and by asking the stores."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.load import connected
from bench.plan import past_us
from bench.reads import GET_SCORE
from bench.requests import ONE_BY_ONE, signal
from bench.subscribers import METHOD as SUBSCRIBE
from coherence.v1.events_pb2 import EVENT_KIND_SIGNAL_STORED, EventFilter, SubscribeRequest, SubscribeResponse
from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalResponse
from coherence.v1.score_pb2 import GetScoreRequest, GetScoreResponse

if TYPE_CHECKING:
    import grpc.aio

    from bench.load import Call

SEEN_S: Final = 20.0
LOOK_S: Final = 0.005


async def scored_ms(one: str, other: str, tenant_id: str, number: int) -> float:
    """From the answer to a write at one address until the score at the other has it."""
    async with connected(one) as here, connected(other) as there:
        read: Call = there.unary_unary(GET_SCORE)
        asked = GetScoreRequest(tenant_id=tenant_id).SerializeToString()
        await read(asked)
        seq = await _stored(here, tenant_id, number)
        begun = monotonic()
        async with asyncio.timeout(SEEN_S):
            while GetScoreResponse.FromString(await read(asked)).score.as_of_seq < seq:  # noqa: ASYNC110 - another process's score sets no event
                await asyncio.sleep(LOOK_S)
        return (monotonic() - begun) * 1000


async def delivered_ms(one: str, other: str, tenant_id: str, number: int) -> float:
    """From the answer to a write at one address until its event is at a subscriber of the other."""
    async with connected(one) as here, connected(other) as there, asyncio.timeout(SEEN_S):
        subscribe: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = there.unary_stream(SUBSCRIBE)
        wanted = EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED])
        stream = subscribe(SubscribeRequest(tenant_id=tenant_id, filter=wanted).SerializeToString())
        try:
            await stream.read()
            event = asyncio.create_task(_event(stream))
            await _stored(here, tenant_id, number)
            answered = monotonic()
            # It may be there before the answer.
            return max(0.0, await event - answered) * 1000
        finally:
            stream.cancel()


async def _stored(channel: grpc.aio.Channel, tenant_id: str, number: int) -> int:
    publish: Call = channel.unary_unary(ONE_BY_ONE)
    body = PublishSignalRequest(signal=signal(90_000_000 + number, past_us(0) - 90_000_000_000, tenant_id))
    return PublishSignalResponse.FromString(await publish(body.SerializeToString())).seq


async def _event(stream: grpc.aio.UnaryStreamCall[bytes, bytes]) -> float:
    while True:
        body = await stream.read()
        if not isinstance(body, bytes):
            message = "the stream ended before the event came"
            raise TypeError(message)
        if SubscribeResponse.FromString(body).WhichOneof("frame") == "batch":
            return monotonic()
