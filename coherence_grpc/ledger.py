"""The ledger's canonical encodings and hashes (docs/ledger.md has test vectors).

H is SHA-256; lp(x) is the length of x as u32 and x; integers are big-endian; instants are signed 64-bit microseconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from coherence_grpc.model import Item, OnConflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coherence_grpc.model import LedgerRow, Provenance, Tags

VERSION: Final = 1
_U32: Final = struct.Struct(">I")
_SIGNAL: Final = struct.Struct(">qQQIII")
_ENTRY: Final = struct.Struct(">QBI")
_HASHED_ITEM: Final = struct.Struct(">BI")
_RANGE: Final = struct.Struct(">QQ")


def lp(data: bytes) -> bytes:
    """`data` behind its length."""
    return _U32.pack(len(data)) + data


@lru_cache(maxsize=1024)
def _words(*words: str) -> bytes:
    """Words that come again and again, each behind its length."""
    return b"".join([lp(word.encode()) for word in words])


def encode_signal(source: str, signal_id: str, type_: str, value_q: int, weight_q: int, ts: int) -> bytes:
    """Instant ‖ value_q ‖ weight_q ‖ the three lengths ‖ source ‖ signal_id ‖ type."""
    s, i, t = source.encode(), signal_id.encode(), type_.encode()
    return _SIGNAL.pack(ts, value_q, weight_q, len(s), len(i), len(t)) + s + i + t


def decode_signal(payload: bytes) -> Item:
    """The signal that `encode_signal` encoded."""
    ts, value_q, weight_q, source_end, id_length, type_length = _SIGNAL.unpack_from(payload)
    start = _SIGNAL.size
    source_end += start
    id_end = source_end + id_length
    return Item(
        source=payload[start:source_end].decode(),
        signal_id=payload[source_end:id_end].decode(),
        type=payload[id_end : id_end + type_length].decode(),
        value_q=value_q,
        weight_q=weight_q,
        ts=ts,
    )


def encode_pruned(ranges: Iterable[tuple[int, int]], reason: str) -> bytes:
    """lp(reason) ‖ (first seq ‖ last seq) of each erased range."""
    return lp(reason.encode()) + b"".join(_RANGE.pack(*r) for r in ranges)


def decode_pruned(payload: bytes) -> tuple[str, Sequence[tuple[int, int]]]:
    """The reason and the ranges that `encode_pruned` encoded."""
    (length,) = _U32.unpack_from(payload)
    body = payload[_U32.size + length :]
    return payload[_U32.size : _U32.size + length].decode(), list(_RANGE.iter_unpack(body))


def request_hash(
    tenant_id: str,
    items: Iterable[tuple[int, bytes]],
    tags: Tags,
    *,
    backfill: bool,
    on_conflict: OnConflict = OnConflict.REJECT,
) -> bytes:
    """H over what a retry must repeat: tenant, items, conflict mode, tags and backfill.

    Each item is (flags, encoding): flag 1 when the caller gave ts, 2 when it gave signal_id; what it didn't give is 0
    or empty in the encoding. A malformed item is flag 4 and an empty encoding. Transport is not covered.
    """
    words = _words(tenant_id, tags.purpose, tags.retention, tags.license, tags.residency)
    digest = sha256(bytes((VERSION, on_conflict, backfill)) + words)
    pack = _HASHED_ITEM.pack
    digest.update(b"".join([pack(flags, len(e)) + e for flags, e in items]))
    return digest.digest()


def provenance_digest(record: Provenance) -> bytes:
    """H over every field of a provenance record."""
    tags = record.tags
    return sha256(
        bytes((VERSION, record.backfill))
        + record.received_at.to_bytes(8, "big", signed=True)
        + lp(record.request_hash)
        + lp(record.provenance_id.encode())
        + lp(record.tenant_id.encode())
        + lp(record.request_id.encode())
        + _words(tags.purpose, tags.retention, tags.license, tags.residency, record.principal, record.transport)
        + lp(record.traceparent.encode())
    ).digest()


class EntryHasher:
    """Hashes the entries of one request: what they share is encoded once."""

    __slots__ = ("_after", "_before", "_plain")

    def __init__(self, epoch: int, tenant_id: str, recorded_at: int, digest: bytes) -> None:
        self._before = bytes((0, VERSION)) + epoch.to_bytes(8, "big") + lp(tenant_id.encode())
        self._after = recorded_at.to_bytes(8, "big", signed=True) + digest
        self._plain = lp(b"") + self._after

    def entry_hash(self, seq: int, kind: int, payload: bytes, superseded: bytes = b"") -> bytes:
        """H(0x00 ‖ version ‖ epoch ‖ lp(tenant) ‖ seq ‖ kind ‖ lp(payload) ‖ lp(superseded) ‖ recorded_at ‖ digest)."""
        body = _ENTRY.pack(seq, kind, len(payload)) + payload
        after = lp(superseded) + self._after if superseded else self._plain
        return sha256(self._before + body + after).digest()


def chain(previous: bytes, entry_hash: bytes) -> bytes:
    """H(0x01 ‖ previous head ‖ entry hash): the head after the entry."""
    return sha256(b"\x01" + previous + entry_hash).digest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a range of the ledger was checked, and where it breaks first (`first_bad_seq` 0: nowhere)."""

    checked: int
    erased: int
    head_hash: bytes
    first_bad_seq: int = 0
    reason: str = ""


def verify(tenant_id: str, first_seq: int, previous: bytes, rows: Iterable[LedgerRow]) -> Verdict:
    """Recomputes the chain over `rows`, which must begin at `first_seq` on top of the head `previous`.

    An erased entry is checked by its stored hash alone.
    """
    checked = erased = 0
    for expected, row in enumerate(rows, start=first_seq):
        problem = _problem(tenant_id, expected, previous, row)
        if problem:
            return Verdict(checked, erased, previous, expected, problem)
        checked += 1
        erased += row.payload is None
        previous = row.head_hash
    return Verdict(checked, erased, previous)


def _problem(tenant_id: str, expected: int, previous: bytes, row: LedgerRow) -> str:
    if row.seq != expected:
        return f"entry {expected} is missing"
    if row.payload is not None:
        hasher = EntryHasher(row.epoch, tenant_id, row.recorded_at, row.provenance_digest)
        if hasher.entry_hash(row.seq, row.kind, row.payload, row.superseded) != row.entry_hash:
            return "the entry's content does not match its hash"
    if chain(previous, row.entry_hash) != row.head_hash:
        return "the entry does not continue the chain"
    return ""
