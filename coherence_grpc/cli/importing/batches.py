"""Rows as requests: up to a thousand of one tenant, the same ones each time the same rows come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence.v1.signal_pb2 import Signal
    from coherence_grpc.cli.importing.rows import Row

MAX_SIGNALS: Final = 1_000
# The server takes a MiB; this leaves room for what surrounds the signals.
MAX_BYTES: Final = 900_000
# How many rows wait for their batch to fill, over all tenants.
MAX_WAITING: Final = 50_000
# Numbers, ts and the lengths of everything.
_FIXED_BYTES: Final = 64
# UTF-8 takes at most this many bytes a code point.
_WIDEST: Final = 4


@dataclass(slots=True)
class Batch:
    """Rows of one tenant that go in one request. `number` counts from 0 over all tenants."""

    number: int
    tenant_id: str
    rows: list[Row]


@dataclass(slots=True)
class _Filling:
    rows: list[Row]
    size: int = 0


class Batcher:
    """Gathers rows by tenant; a batch is given out when it is full, or when too many rows wait."""

    def __init__(self) -> None:
        self._filling: dict[str, _Filling] = {}
        self._waiting = 0
        self._number = 0

    def add(self, row: Row) -> Sequence[Batch]:
        """The batches that this row completes; they keep the order of the rows within a tenant."""
        size = _size(row.signal)
        filling = self._filling.get(row.tenant_id)
        full: list[Batch] = []
        if filling is not None and filling.size + size > MAX_BYTES:
            full.append(self._given_out(row.tenant_id))
            filling = None
        if filling is None:
            filling = self._filling[row.tenant_id] = _Filling([])
        filling.rows.append(row)
        filling.size += size
        self._waiting += 1
        if len(filling.rows) == MAX_SIGNALS:
            full.append(self._given_out(row.tenant_id))
        elif self._waiting >= MAX_WAITING:
            full += self.rest()
        return full

    def rest(self) -> Sequence[Batch]:
        """What still waits."""
        return [self._given_out(tenant_id) for tenant_id in list(self._filling)]

    def _given_out(self, tenant_id: str) -> Batch:
        rows = self._filling.pop(tenant_id).rows
        self._waiting -= len(rows)
        batch = Batch(self._number, tenant_id, rows)
        self._number += 1
        return batch


def _size(signal: Signal) -> int:
    """At most this many bytes. ByteSize() would encode the message: half of what a row costs here."""
    return _FIXED_BYTES + _WIDEST * (len(signal.source) + len(signal.signal_id) + len(signal.type))
