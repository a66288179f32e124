"""Every method of a store that can't be reached says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import StoreDown
from coherence_grpc.ports import ScoreQuery, SignalQuery
from tests.builders import NOON, TENANT, a_provenance, a_score, a_write, an_item, key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coherence_grpc.ports import ScoreStore, SignalStore
    from tests.conformance.homes import ScoreHome, SignalHome

pytestmark = pytest.mark.anyio

SIGNAL_CALLS: dict[str, Callable[[SignalStore], Awaitable[object]]] = {
    "append": lambda store: store.append([a_write()], now=NOON),
    "head": lambda store: store.head(TENANT),
    "heads": lambda store: store.heads([TENANT]),
    "tenants": lambda store: store.tenants(),
    "tail": lambda store: store.tail(TENANT, after=0, limit=1),
    "seq_at": lambda store: store.seq_at(TENANT, NOON),
    "first_readable": lambda store: store.first_readable(TENANT),
    "window": lambda store: store.window(TENANT, start=0),
    "totals": lambda store: store.totals(TENANT, start=0, end=NOON),
    "parts": lambda store: store.parts(TENANT, start=0, end=NOON, ahead=1),
    "numbered": lambda store: store.numbered(TENANT, [1]),
    "get": lambda store: store.get(key_of(an_item())),
    "listing": lambda store: store.listing(TENANT, SignalQuery(), before=None, limit=1),
    "provenance": lambda store: store.provenance(TENANT, "p"),
    "provenance_rows": lambda store: store.provenance_rows(TENANT, "p", limit=1),
    "ledger": lambda store: store.ledger(TENANT, first=1, limit=1),
    "hash_at": lambda store: store.hash_at(TENANT, 1),
    "prune": lambda store: store.prune(TENANT, now=NOON, provenance=a_provenance(), limit=1, dry_run=False),
    "retained": lambda store: store.retained(None),
    "published": lambda store: store.published(),
}
SCORE_CALLS: dict[str, Callable[[ScoreStore], Awaitable[object]]] = {
    "publish": lambda store: store.publish([a_score()]),
    "get": lambda store: store.get([TENANT]),
    "portfolio": lambda store: store.portfolio(ScoreQuery(), tenants=None, after=None, limit=1),
    "shown_at": lambda store: store.shown_at([(TENANT, NOON)]),
    "changes": lambda store: store.changes(TENANT, start=0, end=NOON, limit=1),
    "due": lambda store: store.due(before=NOON, limit=1),
    "next_due": lambda store: store.next_due(),
    "history": lambda store: store.history(TENANT, after_version=0, limit=1),
    "version_at": lambda store: store.version_at(TENANT, NOON),
    "thin": lambda store: store.thin(now=NOON, limit=1),
}


@pytest.mark.parametrize("method", list(SIGNAL_CALLS))
async def test_every_method_of_a_lost_signal_store_raises_store_down(signal_home: SignalHome, method: str) -> None:
    async with signal_home.lost_signals() as store:
        with pytest.raises(StoreDown):
            await SIGNAL_CALLS[method](store)


@pytest.mark.parametrize("method", list(SCORE_CALLS))
async def test_every_method_of_a_lost_score_store_raises_store_down(score_home: ScoreHome, method: str) -> None:
    async with score_home.lost_scores() as store:
        with pytest.raises(StoreDown):
            await SCORE_CALLS[method](store)
