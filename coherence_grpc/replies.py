"""What a request was told, as its provenance record keeps it: only what does not follow from the log.

Empty when every signal of the request was stored. Else JSON: the index and entry of each duplicate, and each refusal in
words; the other indexes were stored, in order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from coherence_grpc.errors import CoherenceError, Conflict, EtagMismatch, FieldError, RequestIdReused, SignalInvalid
from coherence_grpc.model import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coherence_grpc.model import Item, Provenance


class Reply(NamedTuple):
    """The indexes of a request that stored nothing: the entries of the duplicates, and the refusals."""

    duplicates: Mapping[int, int]
    refusals: Mapping[int, CoherenceError]

    def indexes(self, first_seq: int, stored: int) -> Iterator[int | CoherenceError]:
        """For each index of a request that stored so many entries from `first_seq` on: its entry, or its refusal."""
        seq = first_seq
        for index in range(len(self.duplicates) + len(self.refusals) + stored):
            known = self.refusals.get(index) or self.duplicates.get(index)
            yield seq if known is None else known
            seq += known is None


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


def refused(error: CoherenceError) -> Result:
    """What became of a signal that was refused."""
    return Result(None, 0, "", None, error)


def conflict(item: Item, seq: int) -> Conflict:
    """The key of the item was stored with another payload."""
    message = (
        f"signal {item.signal_id!r} of source {item.source!r} is stored at that ts with another type, value or"
        f" weight (entry {seq}), which stays as it is; publish under another signal_id or ts, or replace it"
    )
    return Conflict(message, metadata={"seq": str(seq)})


def reused(provenance: Provenance) -> RequestIdReused:
    """The request id was used with another request_hash."""
    message = (
        f"request_id {provenance.request_id!r} was used for another request of tenant {provenance.tenant_id!r};"
        " choose a new request_id"
    )
    return RequestIdReused(message)


def etag_mismatch(tenant_id: str, etag: str) -> EtagMismatch:
    """The tenant's policy is the one of `etag`, and not the one that the caller took for the newest."""
    message = (
        f"the score policy of tenant {tenant_id!r} has changed and has the etag {etag!r} now; read it, decide anew and"
        " send that etag"
    )
    return EtagMismatch(message, metadata={"etag": etag})


def _words(error: CoherenceError) -> tuple[str, str, Sequence[FieldError], Mapping[str, str]]:
    return error.reason, error.message, error.fields, error.metadata


def _error(reason: str, message: str, fields: Sequence[tuple[str, str]], metadata: Mapping[str, str]) -> CoherenceError:
    kind = next((leaf for leaf in _leaves(CoherenceError) if leaf.reason == reason), SignalInvalid)
    return kind(message, fields=[FieldError(*field) for field in fields], metadata=metadata)


def _leaves(root: type[CoherenceError]) -> Iterator[type[CoherenceError]]:
    for leaf in root.__subclasses__():
        yield leaf
        yield from _leaves(leaf)
