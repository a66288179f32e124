"""What the conformance tests ask a store again and again."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from coherence_grpc.ledger import verify
from coherence_grpc.model import Appended
from tests.builders import NOON, TENANT, a_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.ledger import Verdict
    from coherence_grpc.model import Entry, Item, Write
    from coherence_grpc.ports import SignalStore


def chance(seed: int) -> Random:
    """The same numbers again and again."""
    return Random(seed)  # noqa: S311 - spread, not secret


async def append(signals: SignalStore, *writes: Write, now: int = NOON) -> list[Appended]:
    """What the writes did, none of which is refused as a whole."""
    answers = await signals.append(writes, now=now)
    appended = [answer for answer in answers if isinstance(answer, Appended)]
    assert len(appended) == len(answers)
    return appended


async def append_items(signals: SignalStore, *items: Item, tenant_id: str = TENANT, now: int = NOON) -> Appended:
    """What one request with these items did."""
    (appended,) = await append(signals, a_write(*items, tenant_id=tenant_id), now=now)
    return appended


async def entries(signals: SignalStore, tenant_id: str = TENANT) -> Sequence[Entry]:
    """The tenant's whole log."""
    return await signals.tail(tenant_id, after=0, limit=1_000_000)


async def stored(signals: SignalStore, tenant_id: str = TENANT) -> list[Item | None]:
    """The signals of the tenant's log in order; None where there is none."""
    return [entry.item for entry in await entries(signals, tenant_id)]


async def verdict(signals: SignalStore, tenant_id: str = TENANT) -> Verdict:
    """What a check of the tenant's whole chain says."""
    previous, rows = await signals.ledger(tenant_id, first=1, limit=1_000_000)
    return verify(tenant_id, 1, previous, rows)
