"""Registers servicers behind the interceptors, in their order.

gRPC's own interceptors run after the request is decoded and choose a handler per call; these are composed once.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from coherence_grpc.convert.calls import CALL, cutter
from coherence_grpc.errors import Draining
from coherence_grpc.interceptors.authentication import authenticating
from coherence_grpc.interceptors.connections import Connections, tracking
from coherence_grpc.interceptors.deadline import within_deadline
from coherence_grpc.interceptors.failures import mapping_failures
from coherence_grpc.interceptors.limit import limiting
from coherence_grpc.interceptors.methods import EXEMPT, EXEMPT_POOL, METHODS, Method
from coherence_grpc.interceptors.observation import observing
from coherence_grpc.interceptors.policy import authorising

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coherence_grpc.convert.calls import Context
    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.interceptors.authentication import Authenticate
    from coherence_grpc.interceptors.limit import Pool
    from coherence_grpc.interceptors.methods import Handler
    from coherence_grpc.ports import Authoriser

    # grpc.RpcMethodHandler, whose types describe the synchronous API.
    RpcHandler = Any


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
        self._authenticate = authenticate
        self._authoriser = authoriser
        self._pools = pools
        self._methods = methods
        self._connections = Connections()
        self._watchers: set[Callable[[CoherenceError], None]] = set()

    def add(self, register: Callable[[Any, grpc.aio.Server], None], servicer: object) -> None:
        """Add a servicer with its generated `add_…_to_server`."""
        register(servicer, cast("grpc.aio.Server", self))

    def cut_watchers(self) -> None:
        """End the streams that watch the health: they would outlast everything else."""
        for cut in tuple(self._watchers):
            cut(Draining("the server is shutting down"))

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Nothing: the registered handlers below are the same methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, RpcHandler]) -> None:
        """Pass the wrapped methods on; called by the generated code."""
        wrapped = {name: self._wrapped(service, name, handler) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)

    def _wrapped(self, service: str, name: str, handler: RpcHandler) -> RpcHandler:
        path = f"/{service}/{name}"
        stream = handler.response_streaming
        chain = _cuttable(_writing(handler.unary_stream)) if stream else handler.unary_unary
        method = self._methods.get(path)
        if service in EXEMPT:
            chain = limiting(self._pools[EXEMPT_POOL], self._watching(chain) if stream else chain)
        else:
            chain = self._guarded(path, method, chain, stream=stream)
        chain = observing(path, stream=stream, inner=tracking(self._connections, chain))
        make: Callable[..., RpcHandler] = (
            grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
        )
        outermost = mapping_failures(path, method or Method("", ""), handler.request_deserializer, chain)
        return make(outermost, request_deserializer=None, response_serializer=serialized)

    def _guarded(self, path: str, method: Method | None, chain: Handler, *, stream: bool) -> Handler:
        """Deadline, authentication, policy, limit: the last one added is the outermost."""
        if method and method.pool:
            chain = limiting(self._pools[method.pool], chain)
        chain = authorising(path, method, self._authoriser, chain)
        chain = authenticating(self._authenticate, chain)
        return chain if stream else within_deadline(chain)

    def _watching(self, inner: Handler) -> Handler:
        async def watched(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
            cut = cutter()
            self._watchers.add(cut)
            try:
                return await inner(request, context)
            finally:
                self._watchers.discard(cut)

        return watched


def serialized(response: Any) -> bytes:  # noqa: ANN401 - any response
    """The response's bytes; what is shared by many streams comes as bytes already."""
    encoded: bytes = response if type(response) is bytes else response.SerializeToString()
    return encoded


def _writing(method: Callable[..., Any]) -> Handler:
    """A stream as a coroutine that writes: interceptors then cost nothing per message."""
    if not inspect.isasyncgenfunction(method):
        return method

    async def write_all(request: Any, context: Context) -> None:  # noqa: ANN401 - any request
        responses = method(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            # What the stream holds is let go at once, also when the caller has gone.
            await responses.aclose()

    return write_all


def _cuttable(inner: Handler) -> Handler:
    """The stream, which fails with what it was cut off by."""

    async def cut_off(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
        try:
            return await inner(request, context)
        except asyncio.CancelledError:
            cut_by, task = CALL.get().cut_by, asyncio.current_task()
            if cut_by is None or task is None:
                raise
            task.uncancel()
            raise cut_by from None

    return cut_off
