"""SignalStore.prune and signals that took one another's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.ledger import decode_pruned
from coherence_grpc.model import DAY, Outcome, Retention, Tags
from coherence_grpc.ports import Pruned
from tests.builders import NOON, TENANT, a_provenance, an_item, key_of
from tests.conformance.asking import append, entries, verdict
from tests.conformance.replacing import a_replacement, put, versions

if TYPE_CHECKING:
    from coherence_grpc.ports import SignalStore

pytestmark = pytest.mark.anyio

SHORT, UNLIMITED = Tags(retention=Retention.SHORT), Tags(retention=Retention.UNLIMITED)


async def prune(signals: SignalStore, *, now: int = NOON) -> Pruned:
    return await signals.prune(TENANT, now=now, provenance=a_provenance(), limit=1000, dry_run=False)


async def test_pruning_erases_every_entry_of_a_replaced_signal(signals: SignalStore) -> None:
    first, second, third = versions(0.1, 0.2, 0.3, ts=NOON - 40 * DAY)
    kept = an_item()
    for items in ([first], [kept], [second, third]):
        await put(signals, *items, tags=SHORT)
    before = await entries(signals)

    pruned = await prune(signals)

    log = await entries(signals)
    assert pruned == Pruned(1, more=False)
    assert [(entry.erased, entry.item, entry.superseded) for entry in log[:4]] == [
        (True, None, None),
        (False, kept, None),
        (True, None, None),
        (True, None, None),
    ]
    assert [entry.head_hash for entry in log[:4]] == [entry.head_hash for entry in before]
    assert decode_pruned(log[4].payload) == ("retention", [(1, 1), (3, 4)])
    checked = await verdict(signals)
    assert (checked.checked, checked.erased, checked.first_bad_seq) == (5, 3, 0)
    assert await signals.get(key_of(third)) is None
    _, rows = await signals.ledger(TENANT, first=1, limit=10)
    assert [(row.payload, row.superseded) for row in rows if row.seq in {1, 3, 4}] == [(None, b"")] * 3


async def test_a_dry_run_and_a_pruning_count_signals_whatever_they_superseded(signals: SignalStore) -> None:
    await put(signals, *versions(0.1, 0.2, 0.3, ts=NOON - 40 * DAY), tags=SHORT)
    provenance = a_provenance()

    counted = await signals.prune(TENANT, now=NOON, provenance=provenance, limit=1, dry_run=True)
    pruned = await signals.prune(TENANT, now=NOON, provenance=provenance, limit=1, dry_run=False)

    assert counted == pruned == Pruned(1, more=False)


@pytest.mark.parametrize(("tags", "erased"), [((SHORT, UNLIMITED), 0), ((UNLIMITED, SHORT), 1)])
async def test_a_replaced_signal_is_kept_for_as_long_as_the_newest_request_says(
    signals: SignalStore, tags: tuple[Tags, Tags], erased: int
) -> None:
    for item, own in zip(versions(0.1, 0.2, ts=NOON - 40 * DAY), tags, strict=True):
        await put(signals, item, tags=own)

    assert (await prune(signals)).erased == erased


async def test_a_replay_of_a_replacement_whose_signal_was_erased_is_still_a_duplicate(signals: SignalStore) -> None:
    old, new = versions(0.1, 0.2, ts=NOON - 40 * DAY)
    await put(signals, old, tags=SHORT)
    await append(signals, a_replacement(new, request_id="r", tags=SHORT))
    await prune(signals)

    (again,) = await append(signals, a_replacement(new, request_id="r", tags=SHORT))

    assert [(r.outcome, r.seq, r.item) for r in again.results] == [(Outcome.DUPLICATE, 2, new)]


async def test_an_erased_key_is_new_again(signals: SignalStore) -> None:
    old, new = versions(0.1, 0.2, ts=NOON - 40 * DAY)
    await put(signals, old, new, tags=SHORT)
    await prune(signals)

    appended = await put(signals, old, tags=UNLIMITED)

    assert [(r.outcome, r.seq) for r in appended.results] == [(Outcome.STORED, 4)]
    assert not appended.superseded
