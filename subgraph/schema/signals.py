"""Stored signals."""

import hashlib
from typing import Final, Self

import strawberry

from coherence.v1.ingest_pb2 import SignalFilter
from coherence.v1.signal_pb2 import StoredSignal
from subgraph.instants import micros_of
from subgraph.schema.fields import given
from subgraph.schema.scalars import DateTime

_ID_CHARACTERS: Final = 32


def opaque_id(*parts: str) -> strawberry.ID:
    """A short id that stands for these parts: their hash, length-prefixed so that no two splits agree."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return strawberry.ID(hashlib.sha256(joined.encode()).hexdigest()[:_ID_CHARACTERS])


@strawberry.type(description="A signal as the log holds it: one weighted observation about a tenant.")
class Signal:
    """One stored signal."""

    id: strawberry.ID = strawberry.field(description="Opaque; stands for tenant, source, signalId and ts together.")
    type: str = strawberry.field(description="What kind of observation.")
    value: float = strawberry.field(description="0 (incoherent) to 1 (coherent).")
    weight: float | None = strawberry.field(
        description="The effective weight, 0 to 1000; 0 means stored but muted. Never null."
    )
    source: str = strawberry.field(description="Who emitted it.")
    ts: DateTime = strawberry.field(description="When it happened.")
    signal_id: strawberry.ID = strawberry.field(description="Unique per tenant, source and ts.")
    tenant_id: strawberry.ID = strawberry.field(description="Whose it is.")
    cursor: str = strawberry.field(description="Resume position: subscribe with it as `after` to get what came later.")
    provenance_id: strawberry.ID = strawberry.field(description="The record of the request that stored it first.")
    recorded_at: DateTime = strawberry.field(description="When it was stored.")
    backfill: bool = strawberry.field(description="Historical data: don't alert on it.")

    @classmethod
    def of(cls, stored: StoredSignal, *, cursor: str = "") -> Self:
        """The signal, with the cursor of the event that brought it where there is one."""
        signal = stored.signal
        return cls(
            id=opaque_id(signal.tenant_id, signal.source, signal.signal_id, str(micros_of(signal.ts))),
            type=signal.type,
            value=signal.value,
            weight=signal.weight,
            source=signal.source,
            ts=DateTime(signal.ts),
            signal_id=strawberry.ID(signal.signal_id),
            tenant_id=strawberry.ID(signal.tenant_id),
            cursor=cursor or stored.cursor,
            provenance_id=strawberry.ID(stored.provenance_id),
            recorded_at=DateTime(stored.recorded_time),
            backfill=stored.backfill,
        )


@strawberry.type(description="A page of signals, newest ts first.")
class SignalConnection:
    """A page of signals."""

    nodes: list[Signal] = strawberry.field(description="The signals of this page.")
    end_cursor: str | None = strawberry.field(description="Hand it back as `after` for the next page.")
    has_next_page: bool = strawberry.field(description="There are more.")


@strawberry.input(name="SignalFilter", description="Narrows signals; what is left out does not narrow.")
class SignalFilterInput:
    """Narrows signals."""

    sources: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Any of these sources, at most 100."
    )
    types: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Any of these types, at most 100.")
    start: DateTime | None = strawberry.field(default=strawberry.UNSET, description="With a ts at or after this.")
    end: DateTime | None = strawberry.field(default=strawberry.UNSET, description="With a ts at or before this.")

    def message(self) -> SignalFilter:
        """The filter on the wire."""
        return SignalFilter(
            sources=given(self.sources), types=given(self.types), start_time=given(self.start), end_time=given(self.end)
        )
