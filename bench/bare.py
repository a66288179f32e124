"""The reference of GetScore: a handler that returns a constant, in a process of its own.

It is the same grpc.aio on uvloop with the same options as the service, and does nothing else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from bench.worker import Job, run_async, say_ready, wait_for_go_async

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 100))


def constant(size: int) -> grpc.GenericRpcHandler:
    """GetScore with always the same bytes."""
    reply = bytes(size)

    async def get_score(request: bytes, context: object) -> bytes:
        del request, context
        return reply

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(get_score)
    return grpc.method_handlers_generic_handler("coherence.v1.ScoreService", {"GetScore": handler})


async def work(job: Job) -> Mapping[str, object]:
    """Serve until the parent says go, or is gone."""
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((constant(job["size"]),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say_ready(f"127.0.0.1:{port}")
    await wait_for_go_async()
    async with asyncio.timeout(5):
        await server.stop(None)
    return {}


if __name__ == "__main__":
    run_async(work)
