"""What OpenAPI says about the push endpoint: the body and parameters that its handler reads by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat

from subgraph.problems import Problem
from subgraph.push.reports import PushReport
from subgraph.tags import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STRING: Final = OpenAPIType.STRING
_SIGNAL: Final = Schema(
    type=OpenAPIType.OBJECT,
    title="Signal",
    description="One weighted observation about a tenant.",
    required=["tenant_id", "source", "type", "value"],
    additional_properties=False,
    properties={
        "tenant_id": Schema(type=_STRING, pattern="^[a-z0-9][a-z0-9_-]{0,63}$"),
        "source": Schema(type=_STRING, min_length=1, max_length=128, description="Who emitted it."),
        "signal_id": Schema(
            type=_STRING,
            max_length=128,
            description="Unique per tenant, source and ts. Left out: a hash of the content.",
        ),
        "type": Schema(type=_STRING, min_length=1, max_length=64, description="What kind of observation."),
        "value": Schema(type=OpenAPIType.NUMBER, minimum=0, maximum=1, description="0 incoherent, 1 coherent."),
        "weight": Schema(type=OpenAPIType.NUMBER, minimum=0, maximum=1000, default=1, description="0 stores it muted."),
        "ts": Schema(
            type=_STRING,
            format=OpenAPIFormat.DATE_TIME,
            description="When it happened, with an offset. Left out: when the server first saw the request.",
        ),
    },
)
_BODY: Final = RequestBody(
    required=True,
    description="1 to 1000 signals, at most 1 MiB.",
    content={
        "application/json": OpenAPIMediaType(
            schema=Schema(one_of=[_SIGNAL, Schema(type=OpenAPIType.ARRAY, items=_SIGNAL, min_items=1, max_items=1000)])
        ),
        "application/x-ndjson": OpenAPIMediaType(schema=_SIGNAL),
    },
)
_KEY: Final = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="Sent again with the same signals, the first answer comes back and nothing is stored. Used for each "
    "tenant of the request.",
    schema=Schema(type=_STRING, max_length=128),
)


def _switch(name: str, description: str) -> Parameter:
    return Parameter(name=name, param_in="query", description=description, schema=Schema(type=_STRING, enum=["0", "1"]))


def _word(name: str, words: Sequence[str], description: str) -> Parameter:
    return Parameter(name=name, param_in="query", description=description, schema=Schema(type=_STRING, enum=[*words]))


_PARAMETERS: Final = [
    _KEY,
    _switch("validate", "1: check only; answers as if stored, with seq 0, and writes nothing."),
    _switch("backfill", "1: historical data, nobody should be alerted."),
    _word(
        "on_conflict",
        ("reject", "replace"),
        "When a key is stored with another payload: reject the signal, the default, or put it in its place.",
    ),
    _word(
        "durability",
        ("stored", "scored"),
        "When to answer: after the commit, the default, or when the scores have seen the signals, if that is soon.",
    ),
    *(
        Parameter(
            name=tag,
            param_in="query",
            description=f"The {tag} tag of the request; left out, its default.",
            schema=Schema(type=_STRING, enum=list(words)),
        )
        for tag, words in WORDS.items()
    ),
]


@dataclass
class PushOperation(Operation):
    """The operation with its body and parameters."""

    def __post_init__(self) -> None:
        """Add what the handler's signature doesn't show."""
        self.request_body = _BODY
        self.parameters = [*_PARAMETERS]


def _problem(description: str) -> ResponseSpec:
    return ResponseSpec(
        data_container=Problem,
        description=description,
        media_type="application/problem+json",
        generate_examples=False,
    )


RESPONSES: Final[Mapping[int, ResponseSpec]] = {
    202: ResponseSpec(
        data_container=PushReport,
        description="At least one signal is stored, now or before; each has its result.",
        generate_examples=False,
    ),
    400: _problem("Nothing is stored: each entry of errors points at what is wrong."),
    401: _problem("The caller is not known."),
    403: _problem("The caller may not write to the tenant, or the request is not from this machine."),
    409: _problem("Nothing is stored: the keys, or the Idempotency-Key, stand for something else already."),
    413: _problem("The body is larger than 1 MiB."),
    415: _problem("The body is neither JSON nor newline-delimited JSON."),
    429: _problem("Too much at once; Retry-After says when to try again."),
    503: _problem("Nothing can be stored just now; Retry-After says when to try again."),
    507: _problem("There is no room left; nothing is stored."),
}
