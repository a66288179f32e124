"""The signals in a pushed body, read strictly: each item is a signal, or a refusal that names what is wrong with it.

Only what JSON can get wrong is judged here. Ranges, lengths and characters are the backbone's to judge, so that every
way in has the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import Refusal
from coherence_grpc.errors import FieldError
from subgraph.instants import InstantInvalid, parse_instant
from subgraph.strict_json import JsonInvalid, NotANumber, Repeated, decode_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REQUIRED: Final = ("tenant_id", "source", "type", "value")
TEXTS: Final = ("tenant_id", "source", "signal_id", "type")
NUMBERS: Final = ("value", "weight")
FIELDS: Final = ("tenant_id", "source", "signal_id", "type", "value", "weight", "ts")
_LONGEST_ECHO: Final = 64

Item: TypeAlias = Signal | Refusal


class FieldInvalid(ValueError):
    """One field can't be taken; the message says why and what to send."""


def items_of_json(raw: bytes) -> tuple[Sequence[Item], bool]:
    """The items of a JSON object or array; true when it was an array.

    Raises:
        JsonInvalid: nothing of it can be read.
    """
    value = decode_parts(raw)
    return ([read_item(each) for each in value], True) if isinstance(value, list) else ([read_item(value)], False)


def items_of_lines(raw: bytes) -> Sequence[Item]:
    """The items of newline-delimited JSON; blank lines are none."""
    return [_item_of_line(line) for line in raw.split(b"\n") if line.strip()]


def _item_of_line(line: bytes) -> Item:
    try:
        return read_item(decode_parts(line, "the line"))
    except JsonInvalid as exc:
        return _refusal(FieldError("", str(exc)))


def read_item(value: object) -> Item:
    """The signal in a decoded JSON object, or everything that is wrong with it."""
    if isinstance(value, Repeated):
        return _refusal(FieldError(value.key[:_LONGEST_ECHO], "stands twice; give it once"))
    if not isinstance(value, dict):
        return _refusal(FieldError("", "a signal must be a JSON object"))
    wrong = [
        FieldError(name[:_LONGEST_ECHO], f"is not a field of a signal; the fields are {', '.join(FIELDS)}")
        for name in value
        if name not in FIELDS
    ]
    signal = Signal()
    for name in FIELDS:
        try:
            _READERS[name](signal, name, value.get(name))
        except FieldInvalid as exc:
            wrong.append(FieldError(name, str(exc)))
    return _refusal(*wrong) if wrong else signal


def _read_text(signal: Signal, name: str, value: object) -> None:
    if _left_out(name, value):
        return
    if not isinstance(value, str):
        message = f"must be a string, not {_word(value)}"
        raise FieldInvalid(message)
    setattr(signal, name, value)


def _read_number(signal: Signal, name: str, value: object) -> None:
    if _left_out(name, value):
        return
    if isinstance(value, NotANumber):
        message = f"must be a finite number; {value.word} is no JSON number"
        raise FieldInvalid(message)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        message = f"must be a number, not {_word(value)}"
        raise FieldInvalid(message)
    try:
        setattr(signal, name, float(value))
    except OverflowError:
        message = "must be a finite number; this one has hundreds of digits"
        raise FieldInvalid(message) from None


def _read_ts(signal: Signal, name: str, value: object) -> None:
    if _left_out(name, value):
        return
    if not isinstance(value, str):
        message = f"must be a string such as 2013-02-08T12:00:00Z, not {_word(value)}"
        raise FieldInvalid(message)
    try:
        signal.ts.CopyFrom(parse_instant(value))
    except InstantInvalid as exc:
        message = f"can't be {value[:_LONGEST_ECHO]!r}: {exc}"
        raise FieldInvalid(message) from None


def _left_out(name: str, value: object) -> bool:
    if value is None and name in REQUIRED:
        message = "is required; set it"
        raise FieldInvalid(message)
    return value is None


def _word(value: object) -> str:
    match value:
        case str():
            return f"the string {value[:_LONGEST_ECHO]!r}"
        case bool():
            return "a boolean"
        case int() | float() | NotANumber():
            return "a number"
        case list():
            return "an array"
    return "an object"


def _refusal(*wrong: FieldError) -> Refusal:
    listed = "; ".join(f"{path} {problem}".strip() for path, problem in wrong[:5])
    return Refusal("INVALID_ARGUMENT", "SIGNAL_INVALID", listed, wrong)


_READERS: Final[Mapping[str, Callable[[Signal, str, object], None]]] = {
    **dict.fromkeys(TEXTS, _read_text),
    **dict.fromkeys(NUMBERS, _read_number),
    "ts": _read_ts,
}
