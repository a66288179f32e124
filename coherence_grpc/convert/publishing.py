"""Publish requests into publications, and what became of them into responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import ingest_pb2 as pb
from coherence.v1 import signal_pb2
from coherence_grpc.convert.instants import MAX_NANOS, MAX_SECONDS, MIN_SECONDS, invalid_instant, timestamp
from coherence_grpc.convert.plain import representative
from coherence_grpc.convert.refusals import status_of
from coherence_grpc.convert.validation import checked, malformed_items, refused
from coherence_grpc.errors import FieldError, SignalInvalid
from coherence_grpc.ingest import Publication
from coherence_grpc.model import (
    QUANTUM,
    SECOND,
    Draft,
    Item,
    License,
    OnConflict,
    Outcome,
    Purpose,
    Residency,
    Retention,
    Tags,
)
from coherence_grpc.score import quantise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.ingest import Published
    from coherence_grpc.model import Result
    from coherence_grpc.tokens import Signer

# Unspecified is the default.
PURPOSES: Final = {
    signal_pb2.PURPOSE_UNSPECIFIED: Purpose.BENCHMARKING,
    signal_pb2.PURPOSE_BENCHMARKING: Purpose.BENCHMARKING,
    signal_pb2.PURPOSE_DEMO: Purpose.DEMO,
}
RETENTIONS: Final = {
    signal_pb2.RETENTION_UNSPECIFIED: Retention.STANDARD,
    signal_pb2.RETENTION_SHORT_30D: Retention.SHORT,
    signal_pb2.RETENTION_STANDARD_365D: Retention.STANDARD,
    signal_pb2.RETENTION_LONG_1825D: Retention.LONG,
    signal_pb2.RETENTION_UNLIMITED: Retention.UNLIMITED,
}
LICENSES: Final = {
    signal_pb2.LICENSE_UNSPECIFIED: License.RESTRICTED_TOS,
    signal_pb2.LICENSE_RESTRICTED_TOS: License.RESTRICTED_TOS,
}
RESIDENCIES: Final = {
    signal_pb2.RESIDENCY_UNSPECIFIED: Residency.US,
    signal_pb2.RESIDENCY_US: Residency.US,
}
_DEFAULT_TAGS: Final = Tags()
_OUTCOMES: Final = {
    Outcome.STORED: pb.OUTCOME_STORED,
    Outcome.DUPLICATE: pb.OUTCOME_DUPLICATE,
    Outcome.REPLACED: pb.OUTCOME_REPLACED,
}
_NOT_THE_TENANT: Final = "must be the request's tenant_id or left out; publish another tenant's signals by themselves"


def publication_of_one(request: pb.PublishSignalRequest) -> Publication:
    """The signal as a publication of one.

    Raises:
        SignalInvalid: naming every field that is malformed.
    """
    checked(request, SignalInvalid)
    tenant_id = request.signal.tenant_id
    if not tenant_id:
        raise refused(SignalInvalid, [FieldError("signal.tenant_id", "is required; set it")])
    malformed: dict[int, CoherenceError] = {}
    drafts, positions = drafts_of([request.signal], tenant_id, malformed, "signal")
    if malformed:
        raise malformed[0]
    return Publication(
        tenant_id=tenant_id,
        drafts=drafts,
        positions=positions,
        refused=malformed,
        request_id=request.request_id,
        tags=tags_of(request),
        backfill=request.backfill,
        validate_only=request.validate_only,
        item_path="signal",
        on_conflict=on_conflict(request),
    )


def publication(request: pb.PublishSignalsRequest) -> Publication:
    """The request as a publication; malformed signals are refused one by one.

    Raises:
        SignalInvalid: the request itself is malformed.
    """
    malformed = malformed_items(request, representative(request), "signals")
    drafts, positions = drafts_of(request.signals, request.tenant_id, malformed)
    return Publication(
        tenant_id=request.tenant_id,
        drafts=drafts,
        positions=positions,
        refused=malformed,
        request_id=request.request_id,
        tags=tags_of(request),
        backfill=request.backfill,
        validate_only=request.validate_only,
        on_conflict=on_conflict(request),
    )


def on_conflict(request: pb.PublishSignalRequest | pb.PublishSignalsRequest | pb.StreamOpen) -> OnConflict:
    """What becomes of a signal whose key is stored with another payload."""
    return OnConflict.REPLACE if request.on_conflict == pb.ON_CONFLICT_REPLACE else OnConflict.REJECT


def publish_signal_response(publication: Publication, published: Published, signer: Signer) -> pb.PublishSignalResponse:
    """What became of the one signal.

    Raises:
        CoherenceError: why it was refused.
    """
    (result,) = published.results
    if result.error or result.item is None or result.outcome is None:
        raise result.error or SignalInvalid("signal was refused")
    return pb.PublishSignalResponse(
        outcome=_OUTCOMES[result.outcome],
        key=key(publication.tenant_id, result.item),
        provenance_id=result.provenance_id,
        seq=result.seq,
        revision=signal_pb2.Revision(token=signer.revision(publication.tenant_id, published.head)),
    )


def publish_signals_response(
    publication: Publication, published: Published, signer: Signer
) -> pb.PublishSignalsResponse:
    """What became of each signal, in request order."""
    response = pb.PublishSignalsResponse(
        revision=signal_pb2.Revision(token=signer.revision(publication.tenant_id, published.head))
    )
    add, outcomes = response.results.add, _OUTCOMES
    stored = duplicate = replaced = 0
    for index, (outcome, seq, provenance_id, _, error) in enumerate(published.results):
        if outcome is Outcome.STORED:
            stored += 1
        elif outcome is Outcome.DUPLICATE:
            duplicate += 1
        elif outcome is Outcome.REPLACED:
            replaced += 1
        else:
            add(index=index, error=status_of(error) if error else None)
            continue
        add(index=index, outcome=outcomes[outcome], seq=seq, provenance_id=provenance_id)
    response.stored_count = stored
    response.duplicate_count = duplicate
    response.replaced_count = replaced
    response.refused_count = len(published.results) - stored - duplicate - replaced
    _fill_keys(response, publication, published.results)
    return response


def key(tenant_id: str, item: Item) -> signal_pb2.SignalKey:
    """The four-part key."""
    return signal_pb2.SignalKey(
        tenant_id=tenant_id, source=item.source, signal_id=item.signal_id, ts=timestamp(item.ts)
    )


def _fill_keys(response: pb.PublishSignalsResponse, publication: Publication, results: Sequence[Result]) -> None:
    """Say the keys of the signals that came without an id or an instant."""
    for index, draft in zip(publication.positions, publication.drafts, strict=True):
        if isinstance(draft, Draft):
            item = results[index].item
            if item is not None:
                response.results[index].key.CopyFrom(key(publication.tenant_id, item))


def tags_of(request: pb.PublishSignalRequest | pb.PublishSignalsRequest | pb.StreamOpen) -> Tags:
    """The request's tags; each left out takes its default."""
    if not request.HasField("tags"):
        return _DEFAULT_TAGS
    tags = request.tags
    return Tags(PURPOSES[tags.purpose], RETENTIONS[tags.retention], LICENSES[tags.license], RESIDENCIES[tags.residency])


def drafts_of(
    signals: Sequence[signal_pb2.Signal],
    tenant_id: str,
    malformed: dict[int, CoherenceError],
    item_path: str = "signals[{}]",
) -> tuple[Sequence[Item | Draft], Sequence[int]]:
    """The well-formed signals, quantised, and their indexes; what is found wrong here joins `malformed`.

    The one loop over all signals on the way in: reading a field costs as much as anything else here.
    """
    drafts: list[Item | Draft] = []
    weights: dict[float, int] = {}
    for index, signal in enumerate(signals):
        if malformed and index in malformed:
            continue
        weight = signal.weight
        weight_q = weights.get(weight)
        if weight_q is None:
            weight_q = weights[weight] = quantise(weight)
        if not weight_q and not signal.HasField("weight"):
            weight_q = QUANTUM
        stamp = signal.ts
        seconds, nanos = stamp.seconds, stamp.nanos
        own = signal.tenant_id
        if (own and own != tenant_id) or not (MIN_SECONDS <= seconds <= MAX_SECONDS and 0 <= nanos <= MAX_NANOS):
            malformed[index] = _misplaced(item_path.format(index), own, tenant_id)
            continue
        ts, signal_id = seconds * SECOND + nanos // 1000, signal.signal_id
        if signal_id and (ts or signal.HasField("ts")):
            drafts.append(Item(signal.source, signal_id, signal.type, quantise(signal.value), weight_q, ts))
        else:
            drafts.append(_draft(signal, weight_q, ts))
    if not malformed:
        return drafts, range(len(drafts))
    return drafts, [index for index in range(len(signals)) if index not in malformed]


def _draft(signal: signal_pb2.Signal, weight_q: int, ts: int) -> Draft:
    given = ts if signal.HasField("ts") else None
    return Draft(signal.source, signal.signal_id, signal.type, quantise(signal.value), weight_q, given)


def _misplaced(path: str, own: str, tenant_id: str) -> CoherenceError:
    if own and own != tenant_id:
        return refused(SignalInvalid, [FieldError(f"{path}.tenant_id", _NOT_THE_TENANT)])
    return refused(SignalInvalid, [invalid_instant(f"{path}.ts")])
