"""Registers servicers behind the interceptors.

gRPC's own interceptors run after the request is decoded and choose a handler per call; these are composed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from coherence_grpc.interceptors.guard import Guard, writing
from coherence_grpc.interceptors.methods import EXEMPT, EXEMPT_POOL, METHODS, Method
from coherence_grpc.interceptors.policy import deciding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coherence_grpc.interceptors.authentication import Authenticate
    from coherence_grpc.interceptors.limit import Pool
    from coherence_grpc.ports import Authoriser

    # grpc.RpcMethodHandler, whose types describe the synchronous API.
    RpcHandler = Any

_UNLISTED = Method("", "meta")


class Registry:
    """Stands in for the server when servicers are added: wraps each of their methods and passes it on."""

    def __init__(
        self,
        server: grpc.aio.Server,
        *,
        authenticate: Authenticate,
        authoriser: Authoriser,
        pools: Mapping[str, Pool],
        methods: Mapping[str, Method] = METHODS,
    ) -> None:
        self._server = server
        self._guard = Guard(authenticate)
        self._authoriser = authoriser
        self._pools = pools
        self._methods = methods

    def add(self, register: Callable[[Any, grpc.aio.Server], None], servicer: object) -> None:
        """Add a servicer with its generated `add_…_to_server`."""
        register(servicer, cast("grpc.aio.Server", self))

    def close(self) -> None:
        """Refuse every call from now on, and end the streams that watch the health."""
        self._guard.close()

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Nothing: the handlers below are the same methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, RpcHandler]) -> None:
        """Pass the wrapped methods on; called by the generated code.

        As generic handlers: for each call gRPC waits on one task per registered method, 30 µs with ours.
        """
        wrapped = {name: self._wrapped(service, name, handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def _wrapped(self, service: str, name: str, handler: RpcHandler) -> RpcHandler:
        path = f"/{service}/{name}"
        listed = self._methods.get(path)
        if handler.request_streaming:
            return self._streamed(path, listed, handler)
        stream = handler.response_streaming
        inner = writing(handler.unary_stream) if stream else handler.unary_unary
        method, decode = listed or _UNLISTED, handler.request_deserializer
        if service in EXEMPT:
            outermost = self._guard.exempt(path, method, decode, self._pools[EXEMPT_POOL], inner, stream=stream)
        else:
            decide, pool = deciding(path, listed, self._authoriser), self._pools[method.pool]
            outermost = self._guard.guarded(path, method, decode, decide, pool, inner, stream=stream)
        make: Callable[..., RpcHandler] = (
            grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
        )
        return make(outermost, request_deserializer=None, response_serializer=serialized)

    def _streamed(self, path: str, listed: Method | None, handler: RpcHandler) -> RpcHandler:
        method = listed or _UNLISTED
        outermost = self._guard.streamed(
            path,
            method,
            handler.request_deserializer,
            # Nobody is read from who lacks the scope; whose tenant it is, only the first frame says.
            deciding(path, listed and listed.unopened(), self._authoriser),
            deciding(path, listed, self._authoriser),
            self._pools[method.pool],
            writing(handler.stream_stream),
        )
        return grpc.stream_stream_rpc_method_handler(
            outermost, request_deserializer=None, response_serializer=serialized
        )


def serialized(response: Any) -> bytes:  # noqa: ANN401 - any response
    """The response's bytes; what is shared by many streams comes as bytes already."""
    encoded: bytes = response if type(response) is bytes else response.SerializeToString()
    return encoded
