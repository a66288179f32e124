"""Refusals over plain HTTP: application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Response

from coherence_grpc.telemetry import new_error_id
from subgraph.refusals import MASKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litestar import Request
    from litestar.exceptions import HTTPException

PROBLEM_JSON: Final = "application/problem+json"
_SERVER_ERROR: Final = 500
_log: Final = logging.getLogger(__name__)


class ItemError(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why one signal was refused. `pointer` is the JSON pointer of the field, or of the signal itself."""

    index: int | None = None
    code: str
    reason: str | None = None
    detail: str
    pointer: str
    retry_after_ms: int | None = None


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A refusal as RFC 9457 has it, with one entry per refused signal where there are any."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ItemError] = []


def problem(status: int, slug: str, detail: str, errors: Sequence[ItemError] = ()) -> Problem:
    """A problem of ours; `slug` names its kind."""
    return Problem(
        type=f"urn:coherence:problem:{slug}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=list(errors),
    )


def encode_problem(found: Problem, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The problem as a response."""
    return Response(
        msgspec.json.encode(found),
        status_code=found.status,
        media_type=PROBLEM_JSON,
        headers={"cache-control": "no-store", **(headers or {})},
    )


_DETAILS: Final[Mapping[int, tuple[str, str]]] = {
    404: ("path-unknown", "there is nothing here; GraphQL is at /graphql, push at /v1/coherence/signals"),
    405: ("method-not-allowed", "this method is not for this path; the Allow header names those that are"),
}


def on_http_exception(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework refused, in our words."""
    slug, detail = _DETAILS.get(error.status_code, ("request-refused", HTTPStatus(error.status_code).phrase))
    return encode_problem(problem(error.status_code, slug, detail), error.headers)


def on_fault(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A fault of ours: the text stays in the log, the caller gets its id."""
    error_id = new_error_id()
    _log.error("request failed", exc_info=error, extra={"fields": {"error_id": error_id}})
    return encode_problem(problem(_SERVER_ERROR, "fault", f"{MASKED}: {error_id}"))
