"""Who calls: without configured authentication everyone who can reach the loopback bind is `local`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.convert.calls import CALL
from coherence_grpc.interceptors.methods import ALL_SCOPES
from coherence_grpc.model import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.methods import Handler

    Metadata = Iterable[tuple[str, str | bytes]]
    Authenticate = Callable[[Metadata], Caller]

TRANSPORT_KEY: Final = "x-coherence-transport"
TRANSPORTS: Final = ("grpc", "http", "graphql", "import")
TRACE_KEY: Final = "traceparent"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_LOCAL: Final = {transport: Caller("local", ALL_SCOPES, None, transport) for transport in TRANSPORTS}


def authenticating(authenticate: Authenticate, inner: Handler) -> Handler:
    """The method, called by somebody."""

    async def authenticated(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
        CALL.get().caller = authenticate(context.invocation_metadata() or ())
        return await inner(request, context)

    return authenticated


def local(metadata: Metadata) -> Caller:
    """The principal `local`: all scopes, all tenants. It exists only while every bind is a loopback address.

    The transport and the trace are what the caller says, where it says something well-formed; they are recorded.
    """
    transport, traceparent = "grpc", ""
    for key, value in metadata:
        if key == TRANSPORT_KEY and value in _LOCAL:
            transport = str(value)
        elif key == TRACE_KEY and isinstance(value, str) and _TRACEPARENT.fullmatch(value):
            traceparent = value
    if traceparent:
        return Caller("local", ALL_SCOPES, None, transport, traceparent)
    return _LOCAL[transport]
