"""R17, R18: whatever bytes or messages arrive, no RPC answers with a fault of ours."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc.aio
import httpx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coherence.v1 import admin_pb2, events_pb2, ingest_pb2, meta_pb2, score_pb2
from tests.e2e.ways import PUSH

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    from coherence_grpc.client import Client

    Unary = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    Stream = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FAULTS: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED}
FILES: Final = (admin_pb2, events_pb2, ingest_pb2, meta_pb2, score_pb2)
METHODS: Final = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]
OPERATIONS: Final = Path(__file__).resolve().parents[2] / "subgraph" / "operations"
DEPTH: Final = 3
PATIENCE_S: Final = 10.0

fuzzed = settings(
    max_examples=500,
    deadline=None,
    # The service is shared by all examples on purpose: one request must not spoil the next.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHORT_TEXT: Final = st.text(max_size=130) | st.sampled_from(["acme", "a", "-", "\x00", "\u202e", "é" * 64])
SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_DOUBLE: st.floats() | st.sampled_from([-0.0, 0.5, 1.0, 1000.0]),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: SHORT_TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=40),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 10),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1) | st.integers(0, 10),
    FieldDescriptor.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 5),
}

# Mostly good, so that what stands beside them gets past validation.
BY_NAME: Final[dict[str, st.SearchStrategy[Any]]] = {
    "tenant_id": st.sampled_from(["acme"] * 9 + [""]) | SHORT_TEXT,
    "tenant_ids": st.sampled_from(["acme"] * 9 + [""]) | SHORT_TEXT,
    "seconds": st.integers(1_300_000_000, 2_000_000_000) | SCALARS[FieldDescriptor.TYPE_INT64],
    "nanos": st.integers(0, 10**9 - 1) | SCALARS[FieldDescriptor.TYPE_INT32],
    "value": st.floats(0, 1) | SCALARS[FieldDescriptor.TYPE_DOUBLE],
    "weight": st.floats(0, 1000) | SCALARS[FieldDescriptor.TYPE_DOUBLE],
}


class Call(NamedTuple):
    """A method and what is sent to it."""

    method: MethodDescriptor
    request: bytes


def calls(method: MethodDescriptor) -> st.SearchStrategy[Call]:
    """Decodable requests of the method."""
    assert method.input_type is not None
    return messages(method.input_type).map(lambda request: Call(method, request.SerializeToString()))


@fuzzed
@given(method=st.sampled_from(METHODS), request=st.binary(max_size=300))
async def test_r17_random_bytes_are_never_a_fault_of_ours(
    client: Client, method: MethodDescriptor, request: bytes
) -> None:
    assert await _code(client, method, request) not in FAULTS


@fuzzed
@given(call=st.sampled_from(METHODS).flatmap(calls))
async def test_r17_random_requests_are_never_a_fault_of_ours(client: Client, call: Call) -> None:
    assert await _code(client, call.method, call.request) not in FAULTS


WORDS: Final = st.sampled_from(
    [
        "tenant_id",
        "tenantId",
        "source",
        "type",
        "value",
        "weight",
        "ts",
        "signal_id",
        "documentId",
        "variables",
        "input",
    ]
)
LEAVES: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | SHORT_TEXT
    | st.sampled_from(["acme", "pq_publish_signal_v1", "pq_tenant_v1", "2013-02-08T00:00:00Z", 0.5])
)
JSON: Final = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=4) | st.dictionaries(WORDS | SHORT_TEXT, below, max_size=6)
)
ROWS: Final = st.fixed_dictionaries(
    {"tenant_id": st.just("acme") | LEAVES, "source": SHORT_TEXT | LEAVES, "type": SHORT_TEXT, "value": LEAVES},
    optional={"weight": LEAVES, "ts": LEAVES, "signal_id": LEAVES},
)
VARIABLES: Final = st.fixed_dictionaries(
    {"documentId": st.sampled_from(sorted(path.stem for path in OPERATIONS.glob("*.graphql")))},
    optional={"variables": st.dictionaries(WORDS | st.just("tenantIds") | st.just("asOf"), JSON, max_size=4) | JSON},
)


@fuzzed
@given(path=st.sampled_from([PUSH, "/graphql"]), body=st.binary(max_size=300) | JSON | ROWS | VARIABLES)
async def test_r17_random_bodies_are_never_a_fault_of_ours(http: httpx.AsyncClient, path: str, body: object) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=True).encode()

    answer = await http.post(path, content=content, headers={"content-type": "application/json"})

    assert answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR, answer.text
    assert "INTERNAL" not in answer.text


def messages(descriptor: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Message]:
    """Any message of the type: each field at random left out or given, at or beyond its limits."""
    fields = {
        field.name: _values(field, depth)
        for field in descriptor.fields
        if depth or field.type != FieldDescriptor.TYPE_MESSAGE
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: _built(descriptor, given))


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (_values(field.message_type.fields_by_name[part], depth) for part in ("key", "value"))
        return st.dictionaries(key, value, max_size=4)
    if field.message_type is not None:
        one: st.SearchStrategy[Any] = messages(field.message_type, depth - 1)
    else:
        one = BY_NAME.get(field.name, SCALARS[field.type])
    return st.lists(one, max_size=4) if field.is_repeated else one


def _built(descriptor: Descriptor, given: dict[str, Any]) -> Message:
    """The message; of a oneof the last member wins, as on the wire."""
    message = GetMessageClass(descriptor)()
    for name, value in given.items():
        message.MergeFrom(GetMessageClass(descriptor)(**{name: value}))
    return message


async def _code(client: Client, method: MethodDescriptor, request: bytes) -> grpc.StatusCode:
    """How the call ends; a stream's first frame is enough."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        async with asyncio.timeout(PATIENCE_S):
            if method.server_streaming:
                stream: Stream = client.channel.unary_stream(path)
                call = stream(request)
                await call.read()
                call.cancel()
            else:
                unary: Unary = client.channel.unary_unary(path)
                await unary(request, timeout=PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
