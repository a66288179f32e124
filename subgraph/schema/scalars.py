"""The scalars that GraphQL itself lacks."""

from typing import Any, Final, NewType

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from subgraph.instants import InstantInvalid, format_instant, parse_instant

DateTime = NewType("DateTime", Timestamp)
Long = NewType("Long", int)

_LONGEST_ECHO: Final = 64


def _read_instant(value: object) -> DateTime:
    if not isinstance(value, str):
        message = "DateTime must be a string, such as 2013-02-08T12:00:00Z"
        raise GraphQLError(message)
    try:
        return DateTime(parse_instant(value))
    except InstantInvalid as exc:
        message = f"DateTime can't be {value[:_LONGEST_ECHO]!r}: {exc}"
        raise GraphQLError(message) from None


SCALARS: Final[dict[object, ScalarDefinition]] = {
    DateTime: strawberry.scalar(
        name="DateTime",
        description="An instant as RFC 3339: written in UTC with a Z, read with any offset, refused without one. "
        "Kept in microseconds; what is finer is cut off.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=format_instant,
        parse_value=_read_instant,
    ),
    Long: strawberry.scalar(
        name="Long",
        description="A whole number from 0 to 2^53 - 1, which JSON numbers hold exactly.",
        serialize=int,
        parse_value=int,
    ),
}


def instant_or_none(message: Any, field: str) -> DateTime | None:  # noqa: ANN401 - any message with such a field
    """The message's Timestamp of that name, None when it is unset."""
    return DateTime(getattr(message, field)) if message.HasField(field) else None
