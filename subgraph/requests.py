"""What a GraphQL request asks for, whatever transport it came by, and refusals of the request itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_Value = TypeVar("_Value")

NOT_IN_LIST: Final = "PERSISTED_QUERY_NOT_IN_LIST"
ID_REQUIRED: Final = "PERSISTED_QUERY_ID_REQUIRED"
ID_AND_BODY: Final = "CANNOT_SEND_PQ_ID_AND_BODY"
PARSE_FAILED: Final = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED: Final = "GRAPHQL_VALIDATION_FAILED"
OPERATION_UNKNOWN: Final = "OPERATION_RESOLUTION_FAILURE"
BAD_REQUEST: Final = "BAD_REQUEST"
_HASH_PREFIX: Final = "sha256:"


class RequestRefused(Exception):
    """The request can't be executed; nothing was done.

    `malformed`: it is no GraphQL request at all, so every caller is told by the HTTP status too. `errors` are the
    errors to send; `legacy` the text under the key `error`, for clients that look there.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        malformed: bool = False,
        legacy: str = "",
        errors: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.malformed = malformed
        self.legacy = legacy
        self.errors = errors or ({"message": message, "extensions": {"code": code}},)

    def payload(self) -> dict[str, object]:
        """The body that says so."""
        body: dict[str, object] = {"errors": list(self.errors)}
        if self.legacy:
            body["error"] = self.legacy
        return body


def malformed(message: str, *, legacy: str = "") -> RequestRefused:
    """A refusal of something that is no GraphQL request."""
    return RequestRefused(BAD_REQUEST, message, malformed=True, legacy=legacy)


@dataclass(frozen=True, slots=True)
class Asked:
    """A GraphQL request: a persisted id or a text, with its variables.

    `ids` holds every way in which the request names a persisted operation; `revision` is what the caller has seen.
    """

    ids: frozenset[str] = frozenset()
    query: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    operation_name: str | None = None
    revision: str = ""


def read_request(payload: object) -> Asked:
    """The request in a JSON object with query, variables, operationName, extensions, documentId or id.

    Raises:
        RequestRefused: it is no such object.
    """
    if isinstance(payload, list):
        message = "a list of requests is not taken; send them one by one"
        raise malformed(message)
    if not isinstance(payload, dict):
        message = "the request must be a JSON object with id (or documentId) and variables"
        raise malformed(message)
    extensions = _part(payload, "extensions", dict) or {}
    persisted = _part(extensions, "persistedQuery", dict, "extensions.") or {}
    coherence = _part(extensions, "coherence", dict, "extensions.") or {}
    ids = (
        _part(payload, "id", str),
        _part(payload, "documentId", str),
        _part(persisted, "sha256Hash", str, "extensions.persistedQuery."),
    )
    return Asked(
        ids=frozenset(each.removeprefix(_HASH_PREFIX) for each in ids if each is not None),
        query=_part(payload, "query", str),
        variables=_part(payload, "variables", dict) or {},
        operation_name=_part(payload, "operationName", str),
        revision=_part(coherence, "revision", str, "extensions.coherence.") or "",
    )


def _part(payload: Mapping[str, object], name: str, kind: type[_Value], path: str = "") -> _Value | None:
    value = payload.get(name)
    if value is None or isinstance(value, kind):
        return value
    word = "an object" if kind is dict else "a string"
    message = f"{path}{name} must be {word}"
    raise malformed(message)
