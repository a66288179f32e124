"""A channel to the backbone with its six stubs."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import grpc.aio
from grpc_health.v1.health_pb2_grpc import HealthStub

from coherence.v1.admin_pb2_grpc import AdminServiceStub
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence.v1.ingest_pb2_grpc import IngestServiceStub
from coherence.v1.meta_pb2_grpc import MetaServiceStub
from coherence.v1.score_pb2_grpc import ScoreServiceStub
from coherence_grpc.client.policy import CHANNEL_OPTIONS, UNARY_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    Pairs = Sequence[tuple[str, str | bytes]]

_Call = TypeVar("_Call")
TRANSPORT_KEY: Final = "x-coherence-transport"
_PUBLISHES: Final = {
    "/coherence.v1.IngestService/PublishSignal": PublishSignalRequest,
    "/coherence.v1.IngestService/PublishSignals": PublishSignalsRequest,
}


@dataclass(frozen=True, slots=True)
class Client:
    """The backbone's services over one channel.

    Every call adds the metadata given to `connect`; a call's own `metadata` (authorization, traceparent, …) comes on
    top and wins. A unary call without `timeout` ends after 10 s. Reads and publishes are tried again when the server
    is unavailable; a publish without request id gets one, so that this never stores anything twice.
    """

    address: str
    channel: grpc.aio.Channel
    ingest: IngestServiceStub
    score: ScoreServiceStub
    events: EventsServiceStub
    meta: MetaServiceStub
    admin: AdminServiceStub
    health: HealthStub


@asynccontextmanager
async def connect(address: str, *, token: str | None = None, transport: str = "grpc") -> AsyncIterator[Client]:
    """A client of the backbone at `address` (host:port); it connects with the first call and closes on leaving.

    `token` is sent as a bearer token. `transport` is what provenance records: grpc, http, graphql or import.
    """
    metadata: list[tuple[str, str | bytes]] = []
    if token is not None:
        metadata.append(("authorization", f"Bearer {token}"))
    if transport != "grpc":
        metadata.append((TRANSPORT_KEY, transport))
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        calls = cast("grpc.aio.Channel", _Calls(channel, tuple(metadata)))
        yield Client(
            address,
            channel,
            IngestServiceStub(calls),
            ScoreServiceStub(calls),
            EventsServiceStub(calls),
            MetaServiceStub(calls),
            AdminServiceStub(calls),
            HealthStub(calls),  # type: ignore[no-untyped-call]  # grpc_health has no types
        )


class _Calls:
    """The part of a channel that stubs use; adds metadata, timeouts and request ids.

    Client interceptors would do the same for a task and three objects more a call.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: Pairs) -> None:
        self._channel = channel
        self._metadata = metadata

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> Callable[..., grpc.aio.UnaryUnaryCall[Any, Any]]:
        """A unary call that ends by itself."""
        publish = _PUBLISHES.get(method)
        serializer = _with_request_id(publish) if publish else request_serializer
        return self._bound(self._channel.unary_unary(method, serializer, response_deserializer), UNARY_TIMEOUT_S)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> Callable[..., grpc.aio.UnaryStreamCall[Any, Any]]:
        """A streaming call, as long as the caller reads it."""
        return self._bound(self._channel.unary_stream(method, request_serializer, response_deserializer), None)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> Callable[..., grpc.aio.StreamStreamCall[Any, Any]]:
        """A call that streams both ways."""
        return self._bound(self._channel.stream_stream(method, request_serializer, response_deserializer), None)

    def _bound(self, call: Callable[..., _Call], default_timeout_s: float | None) -> Callable[..., _Call]:
        own = self._metadata

        def bound(
            request: object, *, timeout: float | None = None, metadata: Pairs | None = None, **rest: object
        ) -> _Call:
            if metadata:
                named = {key for key, _ in metadata}
                metadata = (*(pair for pair in own if pair[0] not in named), *metadata)
            return call(
                request, timeout=default_timeout_s if timeout is None else timeout, metadata=metadata or own, **rest
            )

        return bound


def _with_request_id(
    publish: type[PublishSignalRequest | PublishSignalsRequest],
) -> Callable[[PublishSignalRequest | PublishSignalsRequest], bytes]:
    """A serializer that appends a new request id where the caller gave none.

    It runs once a call, before the attempts, and encoded messages merge by concatenation: the caller's own message
    stays as it is.
    """

    def serialized(request: PublishSignalRequest | PublishSignalsRequest) -> bytes:
        encoded = request.SerializeToString()
        return encoded if request.request_id else encoded + publish(request_id=uuid.uuid4().hex).SerializeToString()

    return serialized
