"""Most signals are plainly well-formed, which shows at a third of what validating them costs.

The bounds are those of the annotations in protos/, which stay the single source: what is not plain is not refused, it
is validated by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buf.validate.validate_pb2 import FieldRules, field
from coherence.v1.ingest_pb2 import PublishSignalsRequest, StreamBatch
from coherence.v1.signal_pb2 import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import Descriptor


def _rules(message: Descriptor, name: str) -> FieldRules:
    rules: FieldRules = message.fields_by_name[name].GetOptions().Extensions[field]
    return rules


_MAX_ITEMS: Final = _rules(PublishSignalsRequest.DESCRIPTOR, "signals").repeated.max_items
_MIN_SEQUENCE: Final = _rules(StreamBatch.DESCRIPTOR, "sequence").uint64.gte
_BATCH: Final = _rules(StreamBatch.DESCRIPTOR, "signals").repeated
_MIN_BATCH, _MAX_BATCH = _BATCH.min_items, _BATCH.max_items
_MAX_SOURCE: Final = _rules(Signal.DESCRIPTOR, "source").string.max_len
_MAX_SIGNAL_ID: Final = _rules(Signal.DESCRIPTOR, "signal_id").string.max_len
_MAX_TYPE: Final = _rules(Signal.DESCRIPTOR, "type").string.max_len
_VALUE: Final = _rules(Signal.DESCRIPTOR, "value").double
_MIN_VALUE, _MAX_VALUE = _VALUE.gte, _VALUE.lte
_WEIGHT: Final = _rules(Signal.DESCRIPTOR, "weight").double
_MIN_WEIGHT, _MAX_WEIGHT = _WEIGHT.gte, _WEIGHT.lte


def representative(request: PublishSignalsRequest) -> PublishSignalsRequest:
    """A request that is as well-formed as this one: with its first signal alone, if all of them are plain."""
    signals = request.signals
    if not 1 < len(signals) <= _MAX_ITEMS or not _plain(signals, request.tenant_id):
        return request
    return PublishSignalsRequest(
        tenant_id=request.tenant_id,
        signals=signals[:1],
        on_conflict=request.on_conflict,
        durability=request.durability,
        request_id=request.request_id,
        tags=request.tags,
    )


def is_plain_batch(batch: StreamBatch, tenant_id: str) -> bool:
    """The batch is as its annotations ask for: a frame of one signal is validated at a fifth of the cost."""
    return (
        batch.sequence >= _MIN_SEQUENCE
        and _MIN_BATCH <= len(batch.signals) <= _MAX_BATCH
        and _plain(batch.signals, tenant_id)
    )


def _plain(signals: Iterable[Signal], tenant_id: str) -> bool:
    sources: set[str] = set()
    types: set[str] = set()
    for signal in signals:
        source, signal_id, type_, value = signal.source, signal.signal_id, signal.type, signal.value
        if not (
            (source in sources or _is_new_word(source, _MAX_SOURCE, sources))
            and (type_ in types or _is_new_word(type_, _MAX_TYPE, types))
            and len(signal_id) <= _MAX_SIGNAL_ID
            and signal_id.isascii()
            and signal_id.isprintable()
            and _MIN_VALUE <= value <= _MAX_VALUE
            and (value or signal.HasField("value"))
            and _MIN_WEIGHT <= signal.weight <= _MAX_WEIGHT
            and signal.tenant_id in ("", tenant_id)
        ):
            return False
    return True


def _is_new_word(text: str, max_length: int, words: set[str]) -> bool:
    if 0 < len(text) <= max_length and text.isascii() and text.isprintable():
        words.add(text)
        return True
    return False
