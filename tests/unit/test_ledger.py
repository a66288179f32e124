from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence_grpc.ingest.identifiers import content_id, request_item_id
from coherence_grpc.ledger import (
    EntryHasher,
    chain,
    decode_pruned,
    decode_signal,
    encode_pruned,
    encode_signal,
    provenance_digest,
    request_hash,
    verify,
)
from coherence_grpc.model import (
    DAY,
    GENESIS,
    QUANTUM,
    EntryKind,
    LedgerRow,
    OnConflict,
    Provenance,
    Purpose,
    Retention,
    Status,
    Tags,
)
from coherence_grpc.policy import ScorePolicy, Veto, decode_policy, encode_policy, etag_of
from coherence_grpc.score import quantise
from tests.builders import a_provenance, an_item, payload_of

DOC = Path(__file__).parents[2] / "docs" / "ledger.md"
texts = st.text(max_size=20)


def written_vectors() -> dict[str, Any]:
    (block,) = re.findall(r"```json\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    vectors: dict[str, Any] = json.loads(block)
    return vectors


VECTORS = written_vectors()


def encoding_of(vector: dict[str, Any]) -> bytes:
    """As the document says, not as the code does."""
    source, signal_id, type_ = (vector[field].encode() for field in ("source", "signal_id", "type"))
    value_q, weight_q = (quantise(float(vector[field])) for field in ("value", "weight"))
    lengths = (len(source), len(signal_id), len(type_))
    fixed = struct.pack(">qQQIII", vector["ts"], value_q, weight_q, *lengths)
    return b"".join((fixed, source, signal_id, type_))


def lp(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def written_provenance() -> Provenance:
    vector = VECTORS["provenance"]
    return Provenance(
        provenance_id=vector["provenance_id"],
        tenant_id=vector["tenant_id"],
        request_id=vector["request_id"],
        request_hash=bytes.fromhex(VECTORS["request"]["request_hash"]),
        tags=Tags(),
        principal=vector["principal"],
        transport=vector["transport"],
        received_at=vector["received_at"],
        traceparent=vector["traceparent"],
        backfill=vector["backfill"],
    )


def a_chain(length: int, *, tenant_id: str = "acme", epoch: int = 1) -> list[LedgerRow]:
    digest = provenance_digest(a_provenance(tenant_id=tenant_id))
    hasher = EntryHasher(epoch, tenant_id, 1000, digest)
    rows: list[LedgerRow] = []
    head = GENESIS
    for seq in range(1, length + 1):
        payload = payload_of(an_item(value=seq / 100))
        entry_hash = hasher.entry_hash(seq, 1, payload)
        head = chain(head, entry_hash)
        rows.append(LedgerRow(seq, epoch, 1, payload, b"", 1000, digest, entry_hash, head))
    return rows


@pytest.mark.parametrize("name", ["signal", "signal_without_id"])
def test_a_signal_is_encoded_as_written(name: str) -> None:
    vector = VECTORS[name]
    value_q, weight_q = quantise(float(vector["value"])), quantise(float(vector["weight"]))

    encoding = encode_signal(vector["source"], vector["signal_id"], vector["type"], value_q, weight_q, vector["ts"])

    assert encoding.hex() == vector["encoding"]
    assert encoding == encoding_of(vector)


def test_ids_that_the_server_makes_are_as_written() -> None:
    signal, item = VECTORS["signal_without_id"], VECTORS["request_item_id"]
    encoding = bytes.fromhex(signal["encoding"])

    assert content_id(encoding) == signal["content_id"] == sha256(b"\x02" + encoding).hexdigest()[:32]
    assert request_item_id(item["request_id"], item["index"]) == item["signal_id"]
    assert item["signal_id"] == sha256(b"\x03\x00\x00\x00\x02request-1").hexdigest()[:32]


def test_ac_ing_02_a_request_is_hashed_as_written() -> None:
    vector = VECTORS["request"]
    items = [(flags, bytes.fromhex(VECTORS[name]["encoding"]) if name else b"") for flags, name in vector["items"]]

    hashed = request_hash(vector["tenant_id"], items, Tags(), backfill=vector["backfill"])

    words = [vector["tenant_id"], *vector["tags"]]
    written = b"\x01\x00\x00" + b"".join(lp(word.encode()) for word in words)
    written += b"".join(bytes((flags,)) + lp(encoding) for flags, encoding in items)
    assert hashed.hex() == vector["request_hash"] == sha256(written).hexdigest()
    replacing = request_hash(vector["tenant_id"], items, Tags(), backfill=False, on_conflict=OnConflict.REPLACE)
    written = b"\x01\x01\x00" + written[3:]
    assert replacing.hex() == vector["request_hash_under_replace"] == sha256(written).hexdigest()


def test_ac_ing_02_a_provenance_record_is_digested_as_written() -> None:
    record = written_provenance()

    fields = (record.provenance_id, "acme", "request-1", *VECTORS["request"]["tags"], "local", "grpc", "")
    written = b"\x01\x00" + struct.pack(">q", record.received_at) + lp(record.request_hash)
    written += b"".join(lp(field.encode()) for field in fields)
    assert provenance_digest(record).hex() == VECTORS["provenance"]["digest"] == sha256(written).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"provenance_id": "x"},
        {"tenant_id": "x"},
        {"request_id": "x"},
        {"request_hash": b"x"},
        {"tags": Tags(purpose=Purpose.DEMO)},
        {"tags": Tags(retention=Retention.SHORT)},
        {"principal": "x"},
        {"transport": "x"},
        {"received_at": 1},
        {"traceparent": "x"},
        {"backfill": True},
    ],
    ids=str,
)
def test_the_digest_covers_every_field_of_a_provenance_record(change: dict[str, Any]) -> None:
    record = a_provenance()

    assert provenance_digest(replace(record, **change)) != provenance_digest(record)


def test_an_erasure_is_encoded_as_written() -> None:
    vector = VECTORS["pruned"]
    ranges = [tuple(pair) for pair in vector["ranges"]]

    encoding = encode_pruned(ranges, vector["reason"])

    assert encoding.hex() == vector["encoding"]
    assert decode_pruned(encoding) == (vector["reason"], ranges)


def test_a_policy_is_encoded_as_written() -> None:
    vector = VECTORS["policy"]
    policy = ScorePolicy(
        window_us=7 * DAY,
        half_life_us=DAY,
        warn_ppm=400_000,
        vetoes=(Veto("cancellation", QUANTUM // 2, Status.CRITICAL),),
        type_weights=(("Prüfung", 2_000_000),),
    )

    encoding = encode_policy(policy)

    assert encoding.hex() == vector["encoding"] == vector["text"].encode().hex()
    assert decode_policy(encoding) == policy
    assert etag_of(5, encoding) == vector["etag_of_entry_5"] == f"5-{sha256(encoding).hexdigest()[:16]}"


def test_the_chain_written_down_has_an_entry_of_each_kind() -> None:
    assert {entry["kind"] for entry in VECTORS["chain"]} == set(EntryKind)


def test_ac_ing_02_the_chain_is_as_written() -> None:
    digest, head = bytes.fromhex(VECTORS["provenance"]["digest"]), GENESIS
    for entry in VECTORS["chain"]:
        payload, superseded = (bytes.fromhex(entry.get(name, "")) for name in ("payload", "superseded"))
        hasher = EntryHasher(entry["epoch"], "acme", entry["recorded_at"], digest)

        entry_hash = hasher.entry_hash(entry["seq"], entry["kind"], payload, superseded)

        written = b"\x00\x01" + struct.pack(">Q", entry["epoch"]) + lp(b"acme")
        written += struct.pack(">QB", entry["seq"], entry["kind"]) + lp(payload) + lp(superseded)
        written += struct.pack(">q", entry["recorded_at"]) + digest
        assert entry_hash.hex() == entry["entry_hash"] == sha256(written).hexdigest()
        head = chain(head, entry_hash)
        assert head.hex() == entry["head_hash"]


@given(texts, texts, texts, st.integers(0, QUANTUM), st.integers(0, 1000 * QUANTUM), st.integers(0, 2**62))
def test_decoding_gives_back_what_was_encoded(
    source: str, signal_id: str, type_: str, value_q: int, weight_q: int, ts: int
) -> None:
    item = decode_signal(encode_signal(source, signal_id, type_, value_q, weight_q, ts))

    assert item == (source, signal_id, type_, value_q, weight_q, ts)


def test_moving_a_character_between_two_fields_changes_the_hash() -> None:
    one = encode_signal("ab", "c", "d", 0, 0, 0)
    other = encode_signal("a", "bc", "d", 0, 0, 0)

    assert one != other


def test_the_request_hash_covers_what_a_retry_must_repeat() -> None:
    items = [(3, payload_of(an_item(signal_id="s")))]
    base = request_hash("acme", items, Tags(), backfill=False)

    others = [
        request_hash("other", items, Tags(), backfill=False),
        request_hash("acme", [(1, items[0][1])], Tags(), backfill=False),
        request_hash("acme", items * 2, Tags(), backfill=False),
        request_hash("acme", [(4, b""), *items], Tags(), backfill=False),
        request_hash("acme", items, Tags(), backfill=False, on_conflict=OnConflict.REPLACE),
        request_hash("acme", items, Tags(retention=Retention.SHORT), backfill=False),
        request_hash("acme", items, Tags(), backfill=True),
    ]

    assert len({base, *others}) == 8
    assert request_hash("acme", items, Tags(), backfill=False) == base


def test_an_untouched_chain_verifies_from_any_entry_on() -> None:
    rows = a_chain(5)

    whole = verify("acme", 1, GENESIS, rows)
    part = verify("acme", 3, rows[1].head_hash, rows[2:])

    assert (whole.checked, whole.first_bad_seq, whole.head_hash) == (5, 0, rows[-1].head_hash)
    assert (part.checked, part.first_bad_seq) == (3, 0)


def test_an_erased_entry_verifies_by_its_hash() -> None:
    rows = a_chain(5)
    rows[2] = replace(rows[2], payload=None)

    verdict = verify("acme", 1, GENESIS, rows)

    assert (verdict.checked, verdict.erased, verdict.first_bad_seq) == (5, 1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": payload_of(an_item(value=0.5))},
        {"epoch": 2},
        {"kind": 2},
        {"superseded": b"x"},
        {"recorded_at": 1001},
        {"provenance_digest": bytes(32)},
        {"entry_hash": bytes(32)},
        {"head_hash": bytes(32)},
        {"payload": None, "entry_hash": bytes(32)},
    ],
    ids="+".join,
)
def test_r20_a_changed_entry_is_the_first_bad_one(change: dict[str, Any]) -> None:
    rows = a_chain(5)
    rows[2] = replace(rows[2], **change)

    verdict = verify("acme", 1, GENESIS, rows)

    assert (verdict.checked, verdict.first_bad_seq) == (2, 3)
    assert verdict.reason


def test_r20_every_flipped_bit_of_a_payload_is_found() -> None:
    rows = a_chain(3)
    payload = rows[1].payload or b""

    for bit in range(len(payload) * 8):
        changed = bytearray(payload)
        changed[bit // 8] ^= 1 << bit % 8
        verdict = verify("acme", 1, GENESIS, [rows[0], replace(rows[1], payload=bytes(changed)), rows[2]])
        assert verdict.first_bad_seq == 2


def test_r20_a_deleted_a_reordered_and_a_foreign_entry_are_found() -> None:
    rows, foreign = a_chain(4), a_chain(4, tenant_id="other")

    deleted = verify("acme", 1, GENESIS, [rows[0], *rows[2:]])
    reordered = verify("acme", 1, GENESIS, [rows[0], rows[2], rows[1], rows[3]])
    swapped = verify("acme", 1, GENESIS, [rows[0], foreign[1], *rows[2:]])
    elsewhere = verify("acme", 1, GENESIS, foreign)

    assert [v.first_bad_seq for v in (deleted, reordered, swapped, elsewhere)] == [2, 2, 2, 1]


def test_a_chain_on_top_of_another_head_is_broken_at_its_first_entry() -> None:
    rows = a_chain(3)

    assert verify("acme", 2, bytes(32), rows[1:]).first_bad_seq == 2
