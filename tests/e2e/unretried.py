"""Publishing without second attempts: what is not acknowledged has failed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio

from coherence.v1.ingest_pb2_grpc import IngestServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def unretried(address: str) -> AsyncIterator[IngestServiceStub]:
    """A stub whose calls are sent once, over a connection of its own."""
    options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield IngestServiceStub(channel)
