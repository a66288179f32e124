"""Who calls: without configured authentication everyone who can reach the loopback bind is `local`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from coherence_grpc.interceptors.methods import ALL_SCOPES
from coherence_grpc.model import Caller

Metadata = Iterable[tuple[str, str | bytes]]
Authenticate = Callable[[Metadata], Caller]

TRANSPORT_KEY: Final = "x-coherence-transport"
TRANSPORTS: Final = ("grpc", "http", "graphql", "import")
TRACE_KEY: Final = "traceparent"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_LOCAL: Final = {transport: Caller("local", ALL_SCOPES, None, transport) for transport in TRANSPORTS}


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
