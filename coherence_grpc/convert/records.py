"""Reads of what is stored: signals, provenance, the ledger, pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import admin_pb2, signal_pb2
from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.convert.instants import timestamp
from coherence_grpc.convert.pages import page_size, signals_page
from coherence_grpc.convert.publishing import LICENSES, PURPOSES, RESIDENCIES, RETENTIONS
from coherence_grpc.convert.validation import checked, instant
from coherence_grpc.model import QUANTUM, Key
from coherence_grpc.ports import SignalQuery
from coherence_grpc.tokens import PREFIX_BYTES, Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.ingest import PruneProgress
    from coherence_grpc.ledger import Verdict
    from coherence_grpc.model import Head, Item, LedgerRow, Provenance, StoredSignal, Tags
    from coherence_grpc.tokens import Signer

# What is told is never "unspecified": of two numbers for a word the later one stays.
_PURPOSE_NUMBERS: Final = {word: number for number, word in PURPOSES.items()}
_RETENTION_NUMBERS: Final = {word: number for number, word in RETENTIONS.items()}
_LICENSE_NUMBERS: Final = {word: number for number, word in LICENSES.items()}
_RESIDENCY_NUMBERS: Final = {word: number for number, word in RESIDENCIES.items()}


def signal_key(request: pb.GetSignalRequest) -> Key:
    """The key that is asked for.

    Raises:
        FilterInvalid: it is malformed.
    """
    checked(request)
    key = request.key
    return Key(key.tenant_id, key.source, key.signal_id, instant(key.ts, "key.ts"))


def signal_query(request: pb.ListSignalsRequest) -> SignalQuery:
    """What the list is narrowed to.

    Raises:
        FilterInvalid: the request is malformed.
    """
    checked(request)
    narrow = request.filter
    return SignalQuery(
        sources=frozenset(narrow.sources),
        types=frozenset(narrow.types),
        start=instant(narrow.start_time, "filter.start_time") if narrow.HasField("start_time") else None,
        end=instant(narrow.end_time, "filter.end_time") if narrow.HasField("end_time") else None,
    )


def get_signal_response(signal: StoredSignal, cursor: Cursor, head: Head, signer: Signer) -> pb.GetSignalResponse:
    """One signal, and the head that includes it."""
    return pb.GetSignalResponse(
        signal=stored_signal(signal, signer.cursor(signal.tenant_id, cursor)),
        revision=revision(signal.tenant_id, head, signer),
    )


def list_signals_response(
    request: pb.ListSignalsRequest,
    signals: Sequence[StoredSignal],
    cursors: Sequence[Cursor],
    head: Head,
    signer: Signer,
) -> pb.ListSignalsResponse:
    """A page: of one signal more than asked for, the last only says that there is another page."""
    size = page_size(request)
    shown = signals[:size]
    return pb.ListSignalsResponse(
        signals=[
            stored_signal(signal, signer.cursor(request.tenant_id, cursor))
            for signal, cursor in zip(shown, cursors, strict=False)
        ],
        next_page_token=signals_page(request, signer, shown[-1].item) if len(signals) > size else "",
        revision=revision(request.tenant_id, head, signer),
    )


def cursor_after(signal: StoredSignal, *, signal_epoch: int, score_epoch: int, version: int) -> Cursor:
    """The position after the signal's entry, given the version that was published before it."""
    return Cursor(signal_epoch, signal.seq, signal.head_hash[:PREFIX_BYTES], score_epoch, version)


def stored_signal(signal: StoredSignal, cursor: str) -> signal_pb2.StoredSignal:
    """A signal as the log holds it."""
    return signal_pb2.StoredSignal(
        signal=signal_of(signal.tenant_id, signal.item),
        seq=signal.seq,
        provenance_id=signal.provenance_id,
        cursor=cursor,
        recorded_time=timestamp(signal.recorded_at),
        backfill=signal.backfill,
    )


def signal_of(tenant_id: str, item: Item) -> signal_pb2.Signal:
    """A signal by itself."""
    return signal_pb2.Signal(
        tenant_id=tenant_id,
        source=item.source,
        signal_id=item.signal_id,
        type=item.type,
        value=item.value_q / QUANTUM,
        weight=item.weight_q / QUANTUM,
        ts=timestamp(item.ts),
    )


def revision(tenant_id: str, head: Head, signer: Signer) -> signal_pb2.Revision:
    """The log as it was seen."""
    return signal_pb2.Revision(token=signer.revision(tenant_id, head))


def get_provenance_response(record: Provenance, links: Sequence[tuple[LedgerRow, bytes]]) -> pb.GetProvenanceResponse:
    """The record and its links of the chain."""
    return pb.GetProvenanceResponse(
        provenance=pb.Provenance(
            provenance_id=record.provenance_id,
            tenant_id=record.tenant_id,
            request_id=record.request_id,
            request_hash=record.request_hash,
            tags=_tags(record.tags),
            principal=record.principal,
            transport=record.transport,
            received_time=timestamp(record.received_at),
            traceparent=record.traceparent,
            backfill=record.backfill,
        ),
        links=[
            pb.ChainLink(seq=row.seq, entry_hash=row.entry_hash, previous_head_hash=previous, head_hash=row.head_hash)
            for row, previous in links
        ],
    )


def verify_ledger_response(verdict: Verdict, head: Head, next_seq: int) -> pb.VerifyLedgerResponse:
    """What was checked, and where to go on."""
    return pb.VerifyLedgerResponse(
        valid=not verdict.first_bad_seq,
        first_bad_seq=verdict.first_bad_seq,
        reason=verdict.reason,
        checked_count=verdict.checked,
        erased_count=verdict.erased,
        complete=not next_seq,
        next_seq=next_seq,
        next_head_hash=verdict.head_hash,
        head_seq=head.seq,
    )


def prune_response(progress: PruneProgress) -> admin_pb2.PruneResponse:
    """How far pruning is."""
    return admin_pb2.PruneResponse(
        tenant_id=progress.tenant_id,
        erased_count=progress.erased,
        tenants_done=progress.tenants_done,
        tenants_total=progress.tenants_total,
        done=progress.done,
        dry_run=progress.dry_run,
    )


def _tags(tags: Tags) -> signal_pb2.Tags:
    return signal_pb2.Tags(
        purpose=_PURPOSE_NUMBERS[tags.purpose],
        retention=_RETENTION_NUMBERS[tags.retention],
        license=_LICENSE_NUMBERS[tags.license],
        residency=_RESIDENCY_NUMBERS[tags.residency],
    )
