"""Shape rules: the annotations in protos/ are their single source; here they become errors that name the field."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from protovalidate import Validator

from coherence_grpc.convert.instants import invalid_instant, microseconds
from coherence_grpc.errors import CoherenceError, FieldError, FilterInvalid, SignalInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from protovalidate import Violation

# Beyond this size the first violation is enough: looking for all of them could take seconds.
THOROUGH_BYTES: Final = 64 * 1024
_PATTERNS: Final = {
    "^[a-z0-9]": "must be 1 to 64 lower-case letters, digits, `_` or `-`, starting with a letter or a digit",
    "^[a-z0-9_-]": "must be at most 64 lower-case letters, digits, `_` or `-`",
    "^[\\p{L}": "must hold only letters, marks, numbers, punctuation, symbols and spaces; remove control characters",
}


@cache
def validator() -> Validator:
    """The one validator; it compiles the rules of a message when it first sees one."""
    return Validator()


def checked(request: Message, invalid: type[CoherenceError] = FilterInvalid) -> None:
    """Return when the request has the shape that its annotations ask for.

    Raises:
        invalid: naming every field that is wrong, or the first one of a large request.
    """
    found = validator().collect_violations(request, fail_fast=True)
    if found:
        if request.ByteSize() <= THOROUGH_BYTES:
            found = validator().collect_violations(request)
        raise refused(invalid, field_errors(found))


def malformed_items(
    request: Message, sample: Message, field: str, invalid: type[CoherenceError] = SignalInvalid
) -> dict[int, CoherenceError]:
    """The errors of the malformed items of a repeated field, by index; `sample` is as well-formed as the request.

    Raises:
        invalid: the request itself is malformed.
    """
    first = validator().collect_violations(sample, fail_fast=True)
    if not first:
        return {}
    # What is wrong with the request itself comes first, and a batch that is too long is not looked through.
    found = first if item_of(first[0], field) is None else validator().collect_violations(request)
    by_item: dict[int | None, list[Violation]] = {}
    for violation in found:
        by_item.setdefault(item_of(violation, field), []).append(violation)
    own = by_item.pop(None, None)
    if own:
        raise refused(invalid, field_errors(own))
    return {
        index: refused(SignalInvalid, field_errors(broken)) for index, broken in by_item.items() if index is not None
    }


def refused(invalid: type[CoherenceError], wrong: Sequence[FieldError]) -> CoherenceError:
    """The error that names these fields; its text names the first."""
    path, problem = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return invalid(f"{path} {problem}{more}", fields=wrong)


def field_errors(found: Iterable[Violation]) -> list[FieldError]:
    """One error per field, in the order of the fields; what several rules say about one is joined."""
    problems: dict[str, list[str]] = {}
    for violation in found:
        problems.setdefault(path_of(violation), []).append(_problem(violation))
    return [FieldError(path, "; ".join(texts)) for path, texts in problems.items()]


def item_of(violation: Violation, field: str) -> int | None:
    """The index into the repeated field that the violation is about; None when it is about the request itself."""
    elements = violation.proto.field.elements if violation.proto.field else ()
    if len(elements) > 1 and elements[0].field_name == field and elements[0].subscript:
        index = elements[0].subscript.value
        return index if isinstance(index, int) else None
    return None


def path_of(violation: Violation) -> str:
    """The field's path as in the request, such as `signals[3].value`."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript:
            path += f"[{element.subscript.value}]"
    return path or "request"


def instant(stamp: Timestamp, path: str, invalid: type[CoherenceError] = FilterInvalid) -> int:
    """The instant in microseconds.

    Raises:
        invalid: it is no valid Timestamp.
    """
    us = microseconds(stamp)
    if us is None:
        raise refused(invalid, [invalid_instant(path)])
    return us


def _problem(violation: Violation) -> str:
    if violation.proto.rule_id == "string.pattern":
        rule = str(violation.rule_value)
        return next((text for start, text in _PATTERNS.items() if rule.startswith(start)), violation.proto.message)
    if violation.proto.rule_id == "required":
        return "is required; set it"
    given = violation.field_value
    seen = f", not {given}" if isinstance(given, (int, float)) and not isinstance(given, bool) else ""
    return violation.proto.message + seen
