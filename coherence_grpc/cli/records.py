"""A JSON object, or a row of cells, as a Signal: strictly, so that nothing is stored that nobody meant."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.cli.instants import parse_instant, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.timestamp_pb2 import Timestamp

TEXTS: Final = ("tenant_id", "source", "signal_id", "type")
NUMBERS: Final = ("value", "weight")
FIELDS: Final = (*TEXTS, *NUMBERS, "ts")
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DEEP: Final = "is nested too deeply; a signal is one flat JSON object"


class RecordInvalid(ValueError):
    """A record is no signal: `field` ('' for all of it) and what is wrong with it."""

    def __init__(self, *, problem: str, field: str = "") -> None:
        super().__init__(f"{field} {problem}" if field else problem)
        self.field = field
        self.problem = problem


def signal_of_json(line: bytes | str) -> Signal:
    """The signal that a JSON object holds, under the field names of the API.

    Raises:
        RecordInvalid: it isn't one, or has numbers in quotes, unknown or repeated fields, or a ts without a zone.
    """
    return signal_of_fields(object_of(line))


def object_of(line: bytes | str) -> dict[str, Any]:
    """The JSON object on a line.

    Raises:
        RecordInvalid: it is no JSON, no object, or names a field twice.
    """
    try:
        value = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecordInvalid:
        raise
    except UnicodeDecodeError:
        raise RecordInvalid(problem="is not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise RecordInvalid(problem=_DEEP) from None
    except ValueError as error:
        raise RecordInvalid(problem=f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RecordInvalid(problem=f"is {_kind(value)}; a signal is a JSON object")
    return value


def signal_of_fields(fields: Mapping[str, object]) -> Signal:
    """The signal of decoded JSON fields; null is the same as left out."""
    unknown = fields.keys() - set(FIELDS)
    if unknown:
        name = min(unknown)
        raise RecordInvalid(
            field=_shown(name), problem=f"is not a field of a signal; the fields are {', '.join(FIELDS)}"
        )
    return _signal(fields, number=_json_number)


def signal_of_cells(cells: Mapping[str, str]) -> Signal:
    """The signal of a row's cells by field name; an empty cell is the same as left out."""
    return _signal({name: cell for name, cell in cells.items() if cell != ""}, number=_cell_number)


def _signal(fields: Mapping[str, object], *, number: Callable[[str, object], float]) -> Signal:
    given = {name: value for name, value in fields.items() if value is not None}
    parts: dict[str, Any] = {}
    for name, value in given.items():
        if name == "ts":
            parts[name] = _instant(value)
        else:
            parts[name] = number(name, value) if name in NUMBERS else _text(name, value)
    return Signal(**parts)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise RecordInvalid(field=name, problem=f"is {_kind(value)}; write it as text in quotes")
    return encodable(name, value)


def encodable(name: str, value: str) -> str:
    """The text itself, when it can travel as UTF-8.

    Raises:
        RecordInvalid: it can't.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordInvalid(
            field=name, problem="holds half a character (a lone surrogate, or bytes that aren't UTF-8)"
        ) from None
    return value


def _json_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordInvalid(field=name, problem=f"is {_kind(value)}; write a number without quotes")
    return _finite(name, value)


def _cell_number(name: str, value: object) -> float:
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        raise RecordInvalid(field=name, problem=f"is {text[:32]!r}; write a number")
    return _finite(name, float(text))


def _finite(name: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RecordInvalid(field=name, problem="is not a finite number")
    return number


def _instant(value: object) -> Timestamp:
    if not isinstance(value, str):
        raise RecordInvalid(field="ts", problem=f"is {_kind(value)}; write an RFC 3339 instant in quotes")
    try:
        return timestamp(parse_instant(value))
    except ValueError as error:
        raise RecordInvalid(field="ts", problem=str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordInvalid(field=_shown(twice), problem="is there twice; keep one")
    return fields


def _no_constant(word: str) -> float:
    raise RecordInvalid(problem=f"holds {word}, which is not JSON; write a finite number")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}…")  # noqa: PLR2004 - enough to recognise it
