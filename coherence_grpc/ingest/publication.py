"""What is published, and how it becomes a write: ids and instants filled in, checked, encoded and hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import FieldError, SignalInvalid, TsOutsideRetention
from coherence_grpc.ingest.identifiers import content_id, request_item_id
from coherence_grpc.ledger import encode_signal, request_hash
from coherence_grpc.model import EARLIEST_TS, RETENTION_US, SECOND, Draft, Item, OnConflict, Provenance, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import Caller, Head, Result, Tags

MAX_AHEAD: Final = 300 * SECOND
# Flags of an item in the request hash.
_COMPLETE: Final = 3
_TS_GIVEN: Final = 1
_ID_GIVEN: Final = 2
_MALFORMED: Final = (4, b"")


@dataclass(frozen=True, slots=True)
class Publication:
    """One request's signals for one tenant, as any way in delivers them: shape-checked and quantised.

    `drafts` are the well-formed ones in request order, `positions` their indexes in the request; `refused` holds the
    error of every other index. `request_id` '' lets the server make one. `item_path` names an item in errors, its
    index put for `{}`.
    """

    tenant_id: str
    drafts: Sequence[Item | Draft]
    positions: Sequence[int]
    refused: Mapping[int, CoherenceError]
    request_id: str
    tags: Tags
    backfill: bool
    validate_only: bool
    item_path: str = "signals[{}]"
    on_conflict: OnConflict = OnConflict.REJECT


class Published(NamedTuple):
    """What became of each signal, in request order, and the tenant's head with them."""

    results: Sequence[Result]
    head: Head


class Admission:
    """Lets the signals of one publication in at one instant, or says why not."""

    __slots__ = (
        "_earliest",
        "_hashed",
        "_latest",
        "_now",
        "_publication",
        "_request_id",
        "items",
        "payloads",
        "refused",
    )

    def __init__(self, publication: Publication, request_id: str, now: int) -> None:
        keep = RETENTION_US[publication.tags.retention]
        self._publication = publication
        self._request_id = request_id
        self._now = now
        self._latest = now + MAX_AHEAD
        self._earliest = EARLIEST_TS if keep is None else max(EARLIEST_TS, now - keep)
        self._hashed: list[tuple[int, bytes]] = []
        self.items: list[Item] = []
        self.payloads: list[bytes] = []
        self.refused = dict(publication.refused)

    def admit(self) -> None:
        """Fills in, checks and encodes every draft."""
        earliest, latest = self._earliest, self._latest
        add_item, add_payload, add_hashed = self.items.append, self.payloads.append, self._hashed.append
        for index, draft in zip(self._publication.positions, self._publication.drafts, strict=True):
            if isinstance(draft, Draft):
                self._complete(index, draft)
                continue
            source, signal_id, type_, value_q, weight_q, ts = draft
            payload = encode_signal(source, signal_id, type_, value_q, weight_q, ts)
            add_hashed((_COMPLETE, payload))
            if earliest <= ts <= latest:
                add_item(draft)
                add_payload(payload)
            else:
                self.refused[index] = self._refusal(index, ts)

    def write(self, caller: Caller, provenance_id: str) -> Write:
        """What is to be committed."""
        publication = self._publication
        provenance = Provenance(
            provenance_id=provenance_id,
            tenant_id=publication.tenant_id,
            request_id=self._request_id,
            request_hash=self._hash(),
            tags=publication.tags,
            principal=caller.principal,
            transport=caller.transport,
            received_at=self._now,
            traceparent=caller.traceparent,
            backfill=publication.backfill,
        )
        positions = publication.positions
        if len(self.refused) > len(publication.refused):
            positions = [index for index in positions if index not in self.refused]
        return Write(provenance, self.items, self.payloads, positions, self.refused, publication.on_conflict)

    def _complete(self, index: int, draft: Draft) -> None:
        source, signal_id, type_, value_q, weight_q, ts = draft
        sent = encode_signal(source, signal_id, type_, value_q, weight_q, ts or 0)
        flags = (0 if ts is None else _TS_GIVEN) | (_ID_GIVEN if signal_id else 0)
        self._hashed.append((flags, sent))
        if ts is None:
            signal_id = signal_id or request_item_id(self._request_id, index)
            ts = self._now
        elif not self._earliest <= ts <= self._latest:
            self.refused[index] = self._refusal(index, ts)
            return
        else:
            signal_id = content_id(sent)
        self.items.append(Item(source, signal_id, type_, value_q, weight_q, ts))
        self.payloads.append(encode_signal(source, signal_id, type_, value_q, weight_q, ts))

    def _hash(self) -> bytes:
        publication, hashed = self._publication, self._hashed
        if publication.refused:
            # A malformed item has no encoding; its place keeps the others' indexes apart.
            drafts = iter(hashed)
            size = len(hashed) + len(publication.refused)
            hashed = [_MALFORMED if index in publication.refused else next(drafts) for index in range(size)]
        return request_hash(
            publication.tenant_id,
            hashed,
            publication.tags,
            backfill=publication.backfill,
            on_conflict=publication.on_conflict,
        )

    def _refusal(self, index: int, ts: int) -> CoherenceError:
        path = self._publication.item_path.format(index) + ".ts"
        if ts > self._latest:
            problem = f"is more than {MAX_AHEAD // SECOND} s ahead of the server's clock; correct it, or leave it out"
            return SignalInvalid(f"{path} {problem}", fields=[FieldError(path, problem)])
        if ts < EARLIEST_TS:
            problem = "is before 1970-01-01; correct it"
        else:
            retention = self._publication.tags.retention
            problem = f"is older than the retention {retention}; correct it, or publish under a longer retention"
        return TsOutsideRetention(f"{path} {problem}", fields=[FieldError(path, problem)])
