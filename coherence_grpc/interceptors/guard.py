"""One call's way in and out: the order of everything that is around a servicer."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc.aio

from coherence_grpc.convert.calls import CALL, Call, cut
from coherence_grpc.errors import CoherenceError, Draining
from coherence_grpc.interceptors.connections import Connections
from coherence_grpc.interceptors.deadline import Deadlines
from coherence_grpc.interceptors.failures import decoded, fail, refuse
from coherence_grpc.interceptors.observation import note_refused, note_served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Self

    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.authentication import Authenticate
    from coherence_grpc.interceptors.limit import Pool
    from coherence_grpc.interceptors.methods import Handler, Method
    from coherence_grpc.interceptors.policy import Decide


class Guard:
    """Wraps servicers' methods. Each concern has its module; here is only their order.

    Outermost first: error mapping (failures), telemetry (observation, connections), deadline, authentication, policy,
    limit. They are called in turn instead of wrapping one another, which would cost as much again as what they do.
    """

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate
        self._loop = asyncio.get_running_loop()
        self._connections = Connections()
        self._deadlines = Deadlines()
        self._exempt: set[Call] = set()
        self._closed = False

    def guarded(
        self,
        path: str,
        method: Method,
        decode: Callable[[bytes], Any],
        decide: Decide,
        pool: Pool,
        inner: Handler,
        *,
        stream: bool,
    ) -> Handler:
        """The method on raw bytes, behind everything."""
        authenticate, deadlines = self._authenticate, self._deadlines

        async def admitted(raw: bytes, context: Context, call: Call, begun: float) -> Any:  # noqa: ANN401 - any response
            request = decoded(raw, method, decode)
            if not stream:
                deadlines.impose(call, context.time_remaining(), begun)
            try:
                caller = call.caller = authenticate(context.invocation_metadata() or ())
                await decide(caller, request)
                pool.enter()
                try:
                    return await inner(request, context)
                finally:
                    pool.leave()
            finally:
                deadlines.lift(call)

        return self._outermost(path, admitted, stream=stream)

    def streamed(
        self,
        path: str,
        method: Method,
        decode: Callable[[bytes], Any],
        enter: Decide,
        decide: Decide,
        pool: Pool,
        inner: Handler,
    ) -> Handler:
        """A method whose caller streams: it is let in by `enter`, and decided on with its first frame."""
        authenticate = self._authenticate

        async def admitted(raw: AsyncIterator[bytes], context: Context, call: Call, _begun: float) -> Any:  # noqa: ANN401 - any response
            caller = call.caller = authenticate(context.invocation_metadata() or ())
            await enter(caller, None)
            pool.enter()
            try:
                return await inner(_Frames(raw, method, decode, partial(decide, caller)), context)
            finally:
                pool.leave()

        return self._outermost(path, admitted, stream=True)

    def exempt(
        self, path: str, method: Method, decode: Callable[[bytes], Any], pool: Pool, inner: Handler, *, stream: bool
    ) -> Handler:
        """The method on raw bytes, for everyone at any time; only its errors are mapped."""
        exempt = self._exempt

        async def counted(raw: bytes, context: Context, call: Call, _begun: float) -> Any:  # noqa: ANN401 - any response
            request = decoded(raw, method, decode)
            pool.enter()
            exempt.add(call)
            try:
                return await inner(request, context)
            finally:
                exempt.discard(call)
                pool.leave()

        return self._outermost(path, counted, stream=stream)

    def close(self) -> None:
        """Refuse every call from now on, and end those that watch the health: they would outlast everything else."""
        self._closed = True
        for call in tuple(self._exempt):
            cut(call, _draining())

    def _outermost(self, path: str, admitted: Callable[[Any, Context, Call, float], Any], *, stream: bool) -> Handler:
        loop, connections = self._loop, self._connections

        async def mapped(raw: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
            begun = loop.time()
            call = Call(asyncio.current_task(loop))
            call.connected_at = connections.seen(context.peer(), begun)
            CALL.set(call)
            try:
                if self._closed:
                    raise _draining()  # noqa: TRY301 - mapped like any other
                response = await admitted(raw, context, call, begun)
            except CoherenceError as error:
                note_refused(path, call, loop.time() - begun, error)
                await refuse(context, error)
            except asyncio.CancelledError:
                cut_by = _cut_by(call)
                note_refused(path, call, loop.time() - begun, cut_by)
                await refuse(context, cut_by)
            except grpc.aio.AbortError:
                raise
            except Exception as fault:  # noqa: BLE001 - whatever it is, the caller gets an id and not its text
                await fail(context, path, fault)
            note_served(path, call, loop.time() - begun, stream=stream)
            return response

        return mapped


class _Frames:
    """What the caller of a streaming method sends, decoded as it comes; the first frame names whose it is."""

    def __init__(
        self,
        raw: AsyncIterator[bytes],
        method: Method,
        decode: Callable[[bytes], Any],
        decide: Callable[[Any], Awaitable[None]],
    ) -> None:
        self._raw = aiter(raw)
        self._method = method
        self._decode = decode
        self._decide: Callable[[Any], Awaitable[None]] | None = decide

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - any request
        frame = decoded(await anext(self._raw), self._method, self._decode)
        if self._decide is not None:
            await self._decide(frame)
            self._decide = None
        return frame


def writing(method: Callable[..., Any]) -> Handler:
    """A stream as a coroutine that writes: nothing around it then costs anything per message."""
    if not inspect.isasyncgenfunction(method):
        return method

    async def write_all(request: Any, context: Context) -> None:  # noqa: ANN401 - any request
        responses = method(request, context)
        try:
            async for response in responses:
                await context.write(response)
        except grpc.aio.InternalError:
            # The caller went while a message waited for room on its connection.
            raise asyncio.CancelledError from None
        finally:
            # What the stream holds is let go at once, also when the caller has gone.
            await responses.aclose()

    return write_all


def _cut_by(call: Call) -> CoherenceError:
    """What the call was cut by; a cancellation by its caller goes on."""
    if call.cut_by is None or call.task is None:
        raise asyncio.CancelledError
    call.task.uncancel()
    return call.cut_by


def _draining() -> Draining:
    return Draining("the server is shutting down; try again elsewhere, or in a moment")
