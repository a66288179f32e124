"""Signals that take one another's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coherence_grpc.model import OnConflict
from tests.builders import NOON, a_write, an_item, fresh
from tests.conformance.asking import append

if TYPE_CHECKING:
    from coherence_grpc.model import Appended, Item, Tags, Write
    from coherence_grpc.ports import SignalStore


def versions(*values: float, ts: int = NOON) -> list[Item]:
    """One signal, with one value after another."""
    signal_id = fresh("signal")
    return [an_item(signal_id=signal_id, value=value, ts=ts) for value in values]


def a_replacement(*items: Item, **options: Any) -> Write:  # noqa: ANN401 - those of a_write
    """A request whose items take the place of what is stored under their keys."""
    return a_write(*items, on_conflict=OnConflict.REPLACE, **options)


async def put(signals: SignalStore, *items: Item, tags: Tags | None = None) -> Appended:
    """What such a request did."""
    (appended,) = await append(signals, a_replacement(*items, tags=tags))
    return appended
