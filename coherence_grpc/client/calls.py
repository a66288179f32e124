"""The part of a channel that stubs use; adds metadata, timeouts and request ids.

Client interceptors would do the same for a task and three objects more a call.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence.v1.score_pb2 import RecomputeScoreRequest, UpdateScorePolicyRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc.aio

    from coherence_grpc.client.credentials import Pairs

_Call = TypeVar("_Call")
_Write: TypeAlias = PublishSignalRequest | PublishSignalsRequest | UpdateScorePolicyRequest | RecomputeScoreRequest
_WRITES: Final[Mapping[str, type[_Write]]] = {
    "/coherence.v1.IngestService/PublishSignal": PublishSignalRequest,
    "/coherence.v1.IngestService/PublishSignals": PublishSignalsRequest,
    "/coherence.v1.ScoreService/UpdateScorePolicy": UpdateScorePolicyRequest,
    "/coherence.v1.ScoreService/RecomputeScore": RecomputeScoreRequest,
}


class Calls:
    """Makes the calls of a channel with this metadata; a unary one ends after `timeout_s` unless it says otherwise."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Pairs, timeout_s: float) -> None:
        self._channel = channel
        self._metadata = metadata
        self._timeout_s = timeout_s

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> Callable[..., grpc.aio.UnaryUnaryCall[Any, Any]]:
        """A unary call that ends by itself."""
        write = _WRITES.get(method)
        serializer = _with_request_id(write) if write else request_serializer
        return self._bound(self._channel.unary_unary(method, serializer, response_deserializer), self._timeout_s)

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
            request: object = None, *, timeout: float | None = None, metadata: Pairs | None = None, **rest: object
        ) -> _Call:
            if metadata:
                named = {key for key, _ in metadata}
                metadata = (*(pair for pair in own if pair[0] not in named), *metadata)
            return call(
                request, timeout=default_timeout_s if timeout is None else timeout, metadata=metadata or own, **rest
            )

        return bound


def _with_request_id(write: type[_Write]) -> Callable[[_Write], bytes]:
    """A serializer that appends a new request id where the caller gave none.

    It runs once a call, before the attempts, and encoded messages merge by concatenation: the caller's own message
    stays as it is.
    """

    def serialized(request: _Write) -> bytes:
        encoded = request.SerializeToString()
        return encoded if request.request_id else encoded + write(request_id=uuid.uuid4().hex).SerializeToString()

    return serialized
