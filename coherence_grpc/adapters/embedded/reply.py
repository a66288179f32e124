"""What a request was told, as its provenance record keeps it: only what does not follow from the log.

Empty when every signal of the request was stored. Else JSON: the index and entry of each duplicate, and each refusal in
words; the other indexes were stored, in order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from coherence_grpc.errors import CoherenceError, FieldError, SignalInvalid
from coherence_grpc.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coherence_grpc.model import Result


class Reply(NamedTuple):
    """The indexes of a request that stored nothing: the entries of the duplicates, and the refusals."""

    duplicates: Mapping[int, int]
    refusals: Mapping[int, CoherenceError]


def encode_reply(results: Sequence[Result]) -> bytes:
    """What is kept of the results of a request of which not every signal was stored."""
    duplicates = [(index, result.seq) for index, result in enumerate(results) if result.outcome is Outcome.DUPLICATE]
    refusals = [(index, *_words(result.error)) for index, result in enumerate(results) if result.error is not None]
    return json.dumps({"duplicates": duplicates, "refusals": refusals}, separators=(",", ":")).encode()


def decode_reply(data: bytes) -> Reply:
    """What `encode_reply` kept."""
    if not data:
        return Reply({}, {})
    words = json.loads(data)
    return Reply(dict(words["duplicates"]), {index: _error(*refusal) for index, *refusal in words["refusals"]})


def _words(error: CoherenceError) -> tuple[str, str, Sequence[FieldError], Mapping[str, str]]:
    return error.reason, error.message, error.fields, error.metadata


def _error(reason: str, message: str, fields: Sequence[tuple[str, str]], metadata: Mapping[str, str]) -> CoherenceError:
    kind = next((leaf for leaf in _leaves(CoherenceError) if leaf.reason == reason), SignalInvalid)
    return kind(message, fields=[FieldError(*field) for field in fields], metadata=metadata)


def _leaves(root: type[CoherenceError]) -> Iterator[type[CoherenceError]]:
    for leaf in root.__subclasses__():
        yield leaf
        yield from _leaves(leaf)
