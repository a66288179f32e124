"""POST /v1/coherence/signals: the same ingest path as gRPC and GraphQL, in plain JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response, post

from coherence_grpc.client import Refusal
from subgraph.backbone import caller_of
from subgraph.bodies import JSON, LARGEST_BODY, BodyTooLarge, headers_of, media_type, read_body
from subgraph.problems import Problem, encode_problem, problem
from subgraph.publishing import MOST_SIGNALS, Submitted, Terms, publish
from subgraph.push.decoding import Item, items_of_json, items_of_lines
from subgraph.push.openapi import RESPONSES, PushOperation
from subgraph.push.reports import problem_of, report_of, retry_after
from subgraph.refusals import Refused, http_status
from subgraph.strict_json import JsonInvalid
from subgraph.tags import WORDS, tags_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litestar.handlers import HTTPRouteHandler

    from subgraph.operation import Services

PATH: Final = "/v1/coherence/signals"
LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
SWITCHES: Final = ("validate", "backfill")
# Parameters with a word each, and whether it is the one that asks for more than the default.
CHOICES: Final[Mapping[str, Mapping[str, bool]]] = {
    "on_conflict": {"reject": False, "replace": True},
    "durability": {"stored": False, "scored": True},
}
_TRUTH: Final[Mapping[str, bool]] = {"": True, "1": True, "true": True, "0": False, "false": False}
_ACCEPTED: Final = 202


class PushRefused(Exception):
    """The request as a whole can't be taken."""

    def __init__(self, found: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(found.detail)
        self.found = found
        self.headers = headers


def push_handler(services: Services) -> HTTPRouteHandler:
    """The route that takes signals."""

    @post(
        PATH,
        operation_class=PushOperation,
        responses=RESPONSES,
        status_code=_ACCEPTED,
        summary="Publish signals",
        tags=["push"],
    )
    async def push_signals(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Store one signal, an array, or newline-delimited JSON; each signal has its own outcome."""
        try:
            return await _push(services, request)
        except PushRefused as refused:
            return encode_problem(refused.found, refused.headers)

    return push_signals


async def _push(services: Services, request: Request[Any, Any, Any]) -> Response[bytes]:
    headers = headers_of(request.scope)
    terms = _terms(request.scope["query_string"], headers.get("idempotency-key", ""))
    try:
        caller = caller_of(headers, "http")
    except Refused as refused:
        found = problem(http_status(refused.refusal), "token-invalid", refused.refusal.message)
        raise PushRefused(found) from refused
    items, listed = await _items(request, headers)
    signals = [Submitted(place, item, terms) for place, item in enumerate(items) if not isinstance(item, Refusal)]
    report = await publish(services.backbone, caller, signals)
    for tenant_id, token in report.revisions.items():
        services.revisions.wrote(caller, tenant_id, token)
    report.verdicts.update({place: item for place, item in enumerate(items) if isinstance(item, Refusal)})
    refusals = report.refusals
    if len(refusals) == len(items):
        return encode_problem(problem_of(refusals, listed=listed), retry_after(refusals))
    told = report_of(report, listed=listed, dry_run=terms.validate_only)
    revision = {"coherence-revision": told.revision} if told.revision else {}
    return Response(
        msgspec.json.encode(told),
        status_code=_ACCEPTED,
        media_type=JSON,
        headers={"cache-control": "no-store", **revision},
    )


async def _items(request: Request[Any, Any, Any], headers: Mapping[str, str]) -> tuple[Sequence[Item], bool]:
    kind = media_type(headers)
    if kind != JSON and kind not in LINES:
        detail = "send application/json (one signal or an array) or application/x-ndjson, in UTF-8"
        raise PushRefused(problem(415, "media-type", detail), {"accept": f"{JSON}, application/x-ndjson"})
    if headers.get("content-encoding", "identity") != "identity":
        detail = "send the body as it is, without content-encoding"
        raise PushRefused(problem(415, "media-type", detail), {"accept-encoding": "identity"})
    try:
        raw = await read_body(headers, request.receive)
        items, listed = items_of_json(raw) if kind == JSON else (items_of_lines(raw), True)
    except BodyTooLarge:
        detail = f"the body is larger than {LARGEST_BODY} bytes; send the signals in parts"
        raise PushRefused(problem(413, "body-too-large", detail)) from None
    except JsonInvalid as exc:
        raise PushRefused(problem(400, "body-unreadable", str(exc))) from None
    if not 1 <= len(items) <= MOST_SIGNALS:
        detail = f"a request carries 1 to {MOST_SIGNALS} signals, not {len(items)}; send them in parts"
        raise PushRefused(problem(400, "batch-size", detail))
    return items, listed


def _terms(query_string: bytes, request_id: str) -> Terms:
    """The request's terms, from its query parameters and its Idempotency-Key."""
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        _refuse_parameter("the query string is not percent-encoded UTF-8")
    for name, text in pairs:
        if name in given:
            _refuse_parameter(f"the parameter {name[:64]!r} stands twice; give it once")
        if name not in WORDS and name not in SWITCHES and name not in CHOICES:
            known = ", ".join([*SWITCHES, *CHOICES, *WORDS])
            _refuse_parameter(f"there is no parameter {name[:64]!r}; the known ones are {known}")
        given[name] = text
    tags, problems = tags_of(given)
    if problems:
        _refuse_parameter("; ".join(f"{tag} {wrong}" for tag, wrong in problems.items()))
    return Terms(
        request_id,
        tags,
        backfill=_truth(given, "backfill"),
        validate_only=_truth(given, "validate"),
        replace=_choice(given, "on_conflict"),
        scored=_choice(given, "durability"),
    )


def _truth(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "0").lower()
    if text not in _TRUTH:
        _refuse_parameter(f"{name} must be 1 or 0, not {text[:64]!r}")
    return _TRUTH[text]


def _choice(given: Mapping[str, str], name: str) -> bool:
    words = CHOICES[name]
    text = given.get(name, next(iter(words)))
    if text not in words:
        _refuse_parameter(f"{name} must be {' or '.join(words)}, not {text[:64]!r}")
    return words[text]


def _refuse_parameter(detail: str) -> NoReturn:
    raise PushRefused(problem(400, "parameter-invalid", detail))
