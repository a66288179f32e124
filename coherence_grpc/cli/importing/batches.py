"""Rows as requests: up to a thousand of one tenant, the same ones each time the same rows come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coherence_grpc.cli.importing.rows import Row

MAX_SIGNALS: Final = 1_000
# The server takes a MiB; this leaves room for what surrounds the signals.
MAX_BYTES: Final = 900_000
# How many rows wait for their batch to fill, over all tenants.
MAX_WAITING: Final = 50_000
_FRAME_BYTES: Final = 4


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

    def add(self, row: Row) -> Iterator[Batch]:
        """The batches that this row completes; they keep the order of the rows within a tenant."""
        size = row.signal.ByteSize() + _FRAME_BYTES
        filling = self._filling.get(row.tenant_id)
        if filling is not None and filling.size + size > MAX_BYTES:
            yield self._given_out(row.tenant_id)
            filling = None
        if filling is None:
            filling = self._filling[row.tenant_id] = _Filling([])
        filling.rows.append(row)
        filling.size += size
        self._waiting += 1
        if len(filling.rows) == MAX_SIGNALS:
            yield self._given_out(row.tenant_id)
        elif self._waiting >= MAX_WAITING:
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        """What still waits."""
        for tenant_id in list(self._filling):
            yield self._given_out(tenant_id)

    def _given_out(self, tenant_id: str) -> Batch:
        rows = self._filling.pop(tenant_id).rows
        self._waiting -= len(rows)
        batch = Batch(self._number, tenant_id, rows)
        self._number += 1
        return batch
