"""Field paths of the RPCs in the words of GraphQL callers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNDERSCORED: Final = re.compile(r"_([a-z])")
# Where the argument is called otherwise than the request's field.
_ARGUMENTS: Final[Mapping[str, str]] = {
    "as_of_time": "asOf",
    "top_n": "top",
    "page_size": "first",
    "page_token": "after",
    "start.cursor": "after",
    "start": "after",
    "start_time": "from",
    "end_time": "to",
    "step": "stepSeconds",
    "lookback": "lookbackSeconds",
    "policy.window": "policy.windowSeconds",
    "policy.half_life": "policy.halfLifeSeconds",
    "policy.dwell": "policy.dwellSeconds",
    "policy.stale_after": "policy.staleAfterSeconds",
    "filter.start_time": "filter.start",
    "filter.end_time": "filter.end",
    "request_id": "input.idempotencyKey",
    "consistency": "revision",
    "consistency.at_least_as_fresh": "revision",
    "consistency.at_least_as_fresh.token": "revision",
}

_INPUT: Final = frozenset({"tags", "backfill"})


def graphql_path(path: str) -> str:
    """The argument that a request's field came from: `signal.signal_id` is `input.signalId`."""
    if path in _ARGUMENTS:
        return _ARGUMENTS[path]
    head, dot, rest = path.partition(".")
    if head == "signal":
        return camel(f"input{dot}{rest}")
    return camel(f"input.{path}" if head in _INPUT else path)


def item_path(argument: str, place: int, path: str) -> str:
    """The path of a field of one item of a list argument."""
    field = "idempotencyKey" if path == "request_id" else camel(path)
    return f"{argument}[{place}].{field}"


def camel(path: str) -> str:
    """The path with its names in camel case."""
    return _UNDERSCORED.sub(lambda found: found[1].upper(), path)
