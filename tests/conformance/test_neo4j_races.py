"""Processes on one graph that replace signals and change policies at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import EtagMismatch
from coherence_grpc.model import Entry, EntryKind, OnConflict, Outcome
from coherence_grpc.policy import DEFAULT, encode_policy
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, TENANT, a_provenance, a_write, an_item, key_of
from tests.conformance.asking import append, entries, verdict

if TYPE_CHECKING:
    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]


async def test_of_policies_of_several_processes_based_on_the_same_one_is_written(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async def change(store: SignalStore) -> Entry | EtagMismatch:
        provenance = a_provenance()
        try:
            return await store.append_own(
                TENANT, EntryKind.POLICY, encode_policy(DEFAULT), provenance, now=NOON, based_on=0
            )
        except EtagMismatch as refused:
            return refused

    async with asyncio.timeout(50), AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(migrated_graph.signals(clock)) for _ in range(4)]
        calls = [asyncio.create_task(change(store)) for store in stores for _ in range(2)]
        answers = [await call for call in calls]
        policies = [await store.policy(TENANT, at=1) for store in stores]
        checked = await verdict(stores[0])

    (written,) = [answer for answer in answers if isinstance(answer, Entry)]
    refused = [answer for answer in answers if isinstance(answer, EtagMismatch)]
    assert {policy.provenance_id for policy in policies} == {written.provenance_id}
    assert [answer.metadata["etag"] for answer in refused] == [policies[0].etag] * 7
    assert (checked.checked, checked.first_bad_seq) == (1, 0)


async def test_of_replacements_of_several_processes_each_supersedes_the_one_before(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    first = an_item(value=0.0)

    async def replace(store: SignalStore, item: Item) -> Outcome | None:
        (appended,) = await append(store, a_write(item, an_item(), on_conflict=OnConflict.REPLACE))
        return appended.results[0].outcome

    async with asyncio.timeout(50), AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(migrated_graph.signals(clock)) for _ in range(4)]
        await append(stores[0], a_write(first))
        calls = [
            asyncio.create_task(replace(stores[number % 4], first._replace(value_q=number))) for number in range(1, 21)
        ]
        outcomes = [await call for call in calls]
        log = await entries(stores[0])
        now = await stores[0].get(key_of(first))
        checked = await verdict(stores[0])

    chain = [entry for entry in log if entry.item and key_of(entry.item) == key_of(first)]
    assert outcomes == [Outcome.REPLACED] * 20
    assert [entry.superseded for entry in chain] == [None, *(entry.item for entry in chain[:-1])]
    assert now is not None
    assert (now.seq, now.item) == (chain[-1].seq, chain[-1].item)
    assert (checked.checked, checked.first_bad_seq) == (1 + 20 * 2, 0)
    assert await migrated_graph.look("MATCH (:Tenant)-[:EMITS]->(s) RETURN count(*), count(DISTINCT s)") == [[21, 21]]
