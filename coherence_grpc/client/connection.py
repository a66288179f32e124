"""A client of the backbone: typed methods over one channel, and its stubs."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from coherence_grpc.client.calls import Calls
from coherence_grpc.client.client import Client
from coherence_grpc.client.credentials import TLS, Identity, Token, open_channel
from coherence_grpc.client.policy import UNARY_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc.aio

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
TRANSPORT_KEY: Final = "x-coherence-transport"
PATIENCE_S: Final = 300.0


@asynccontextmanager
async def connect(
    address: str | None = None,
    *,
    token: Token | None = None,
    tls: TLS | None = None,
    timeout_s: float = UNARY_TIMEOUT_S,
    patience_s: float = PATIENCE_S,
    transport: str = "grpc",
) -> AsyncIterator[Client]:
    """A client of the backbone at `address`; it connects with the first call and closes on leaving.

    Without an address: COHERENCE_ADDRESS, or 127.0.0.1:50051; without a token: COHERENCE_TOKEN, or none, as with ''.
    `token` is sent as a bearer token; a function is asked for it before each call. `timeout_s` ends unary calls, and
    `patience_s` is how long a watch, an event stream or a Publisher tries to come back before it fails. `transport` is
    what provenance records: grpc, http, graphql or import.
    """
    address = address or os.environ.get("COHERENCE_ADDRESS") or DEFAULT_ADDRESS
    if token is None:
        token = os.environ.get("COHERENCE_TOKEN", "")
    identity = Identity(token, [] if transport == "grpc" else [(TRANSPORT_KEY, transport)])
    async with open_channel(address, tls) as channel:
        calls = cast("grpc.aio.Channel", Calls(channel, identity.fixed, timeout_s))
        yield Client(address, channel, calls, identity, timeout_s=timeout_s, patience_s=patience_s)
