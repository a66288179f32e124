"""A gRPC server that answers as a test says: for what a real backbone does too seldom to wait for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc.aio
from grpc import method_handlers_generic_handler, stream_stream_rpc_method_handler, unary_unary_rpc_method_handler

from coherence.v1 import ingest_pb2 as pb
from coherence.v1 import score_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Frames: TypeAlias = AsyncIterator[pb.StreamSignalsRequest]
    Streams: TypeAlias = Callable[[Frames, Context], AsyncIterator[pb.StreamSignalsResponse]]
    Scores: TypeAlias = Callable[[score_pb2.GetScoreRequest, Context], Awaitable[score_pb2.GetScoreResponse]]

GRACE_S: Final = 2.0


@asynccontextmanager
async def speaking(
    *, streams: Streams | None = None, scores: Scores | None = None, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """The address of a server whose StreamSignals and GetScore are these."""
    server = grpc.aio.server()
    if streams is not None:
        stream = stream_stream_rpc_method_handler(
            streams, pb.StreamSignalsRequest.FromString, pb.StreamSignalsResponse.SerializeToString
        )
        handlers = method_handlers_generic_handler("coherence.v1.IngestService", {"StreamSignals": stream})
        server.add_generic_rpc_handlers((handlers,))
    if scores is not None:
        unary = unary_unary_rpc_method_handler(
            scores, score_pb2.GetScoreRequest.FromString, score_pb2.GetScoreResponse.SerializeToString
        )
        handlers = method_handlers_generic_handler("coherence.v1.ScoreService", {"GetScore": unary})
        server.add_generic_rpc_handlers((handlers,))
    place = "127.0.0.1:0"
    port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        # Calls end when their clients are gone; one that is cut is still spoken of by gRPC when its loop is closed.
        await server.stop(GRACE_S)


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
