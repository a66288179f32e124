"""A gRPC server that answers as a test says: for what a real backbone does too seldom to wait for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc.aio
from grpc import (
    method_handlers_generic_handler,
    stream_stream_rpc_method_handler,
    unary_stream_rpc_method_handler,
    unary_unary_rpc_method_handler,
)

from coherence.v1 import events_pb2, score_pb2
from coherence.v1 import ingest_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Frames: TypeAlias = AsyncIterator[pb.StreamSignalsRequest]
    Streams: TypeAlias = Callable[[Frames, Context], AsyncIterator[pb.StreamSignalsResponse]]
    Scores: TypeAlias = Callable[[score_pb2.GetScoreRequest, Context], Awaitable[score_pb2.GetScoreResponse]]
    Events: TypeAlias = Callable[[events_pb2.SubscribeRequest, Context], AsyncIterator[events_pb2.SubscribeResponse]]

GRACE_S: Final = 2.0


@asynccontextmanager
async def speaking(
    *,
    streams: Streams | None = None,
    scores: Scores | None = None,
    events: Events | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[str]:
    """The address of a server whose StreamSignals, GetScore and Subscribe are these."""
    server = grpc.aio.server()
    if streams is not None:
        take, give = pb.StreamSignalsRequest.FromString, pb.StreamSignalsResponse.SerializeToString
        _add(server, "IngestService", "StreamSignals", stream_stream_rpc_method_handler(streams, take, give))
    if scores is not None:
        read, write = score_pb2.GetScoreRequest.FromString, score_pb2.GetScoreResponse.SerializeToString
        _add(server, "ScoreService", "GetScore", unary_unary_rpc_method_handler(scores, read, write))
    if events is not None:
        ask, tell = events_pb2.SubscribeRequest.FromString, events_pb2.SubscribeResponse.SerializeToString
        _add(server, "EventsService", "Subscribe", unary_stream_rpc_method_handler(events, ask, tell))
    place = "127.0.0.1:0"
    port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        # Calls end when their clients are gone; one that is cut is still spoken of by gRPC when its loop is closed.
        await server.stop(GRACE_S)


def _add(server: grpc.aio.Server, service: str, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
    server.add_generic_rpc_handlers((method_handlers_generic_handler(f"coherence.v1.{service}", {method: handler}),))


async def refuse(context: Context, code: grpc.StatusCode, message: str) -> None:
    """End the call."""
    await context.abort(code, message)


def opened(frame: pb.StreamSignalsRequest, *, credits: int = 10_000, batch: int = 1_000) -> pb.StreamSignalsResponse:  # noqa: A002 - the contract's word
    """The answer to an open."""
    return pb.StreamSignalsResponse(
        opened=pb.StreamOpened(
            acked_through=frame.open.acked_through,
            credits=credits,
            max_batch_signals=batch,
            max_batch_bytes=1 << 20,
        )
    )


def ack(frame: pb.StreamSignalsRequest) -> pb.StreamSignalsResponse:
    """All signals of this batch are stored."""
    stored = pb.StreamAck(acked_through=frame.batch.sequence, stored_count=len(frame.batch.signals))
    return pb.StreamSignalsResponse(ack=stored)
