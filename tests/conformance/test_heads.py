"""SignalStore: heads, tenants, and what is remembered beside them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import GENESIS, Head
from tests.builders import NOON, TENANT, ManualClock, a_score, a_write, an_item
from tests.conformance.asking import append, append_items

if TYPE_CHECKING:
    from coherence_grpc.ports import SignalStore
    from tests.conformance.homes import SignalHome

pytestmark = pytest.mark.anyio


async def test_the_head_of_a_log_never_written_to_is_zero(signals: SignalStore) -> None:
    assert await signals.head("nobody") == Head(signals.epoch, 0, GENESIS)


async def test_the_head_is_that_of_the_last_append(signals: SignalStore) -> None:
    await append_items(signals, an_item())
    appended = await append_items(signals, an_item(), an_item())

    head = await signals.head(TENANT)

    assert head == appended.head == Head(signals.epoch, 3, appended.hashes[-1])


async def test_heads_of_many_tenants_come_from_one_snapshot(signals: SignalStore) -> None:
    seen = []

    async def write() -> None:
        for _ in range(20):
            await append(signals, a_write(tenant_id="a"), a_write(tenant_id="b"))

    writing = asyncio.ensure_future(write())
    while not writing.done():
        seen.append(await signals.heads(["a", "b", "nobody"]))
        await asyncio.sleep(0)
    await writing

    assert all(heads["a"].seq == heads["b"].seq for heads in seen)
    assert {heads["nobody"].seq for heads in seen} == {0}
    assert (await signals.heads(["a"]))["a"].seq == 20


async def test_every_tenant_with_a_log_is_named_ascending(signals: SignalStore) -> None:
    await append(signals, *(a_write(tenant_id=tenant_id) for tenant_id in ("c", "a", "b-2", "b", "a")))

    assert await signals.tenants() == ["a", "b", "b-2", "c"]


async def test_a_published_score_is_remembered_at_once_and_across_a_restart(
    signal_home: SignalHome, clock: ManualClock
) -> None:
    async with signal_home.signals(clock) as signals:
        await append(signals, a_write(tenant_id="a"), a_write(tenant_id="b"))
        signals.note_published(a_score(tenant_id="a", score_epoch=1, version=7))
        signals.note_published(a_score(tenant_id="b", score_epoch=1, version=1))
        signals.note_published(a_score(tenant_id="a", score_epoch=2, version=8))
        signals.note_published(a_score(tenant_id="a", score_epoch=1, version=9))
        noted = await signals.published()

    async with signal_home.signals(clock) as signals:
        assert noted == await signals.published() == {"a": (2, 8), "b": (1, 1)}


async def test_a_score_of_a_tenant_without_a_log_is_remembered_and_makes_it_none(
    signal_home: SignalHome, clock: ManualClock
) -> None:
    async with signal_home.signals(clock) as signals:
        signals.note_published(a_score(tenant_id="quiet", score_epoch=1, version=1))
        await append(signals, a_write(tenant_id="a"), a_write(tenant_id="b"))

    async with signal_home.signals(clock) as signals:
        await append(signals, a_write(tenant_id="quiet"))

        assert await signals.published() == {"quiet": (1, 1)}
        assert await signals.tenants() == ["a", "b", "quiet"]
        assert (await signals.head("quiet")).seq == 1


async def test_the_clock_observes_what_was_recorded_before_a_restart(
    signal_home: SignalHome, clock: ManualClock
) -> None:
    async with signal_home.signals(clock) as signals:
        await append_items(signals, an_item(), now=NOON + 1_000_000)
    behind = ManualClock(NOON)

    async with signal_home.signals(behind):
        assert behind.now() == NOON + 1_000_000


async def test_the_epoch_stays_across_a_restart(signal_home: SignalHome, clock: ManualClock) -> None:
    async with signal_home.signals(clock) as signals:
        epoch = signals.epoch

    async with signal_home.signals(clock) as signals:
        assert signals.epoch == epoch >= 1


async def test_logs_that_moved_at_an_instant_or_after_it_are_told_with_their_heads(signals: SignalStore) -> None:
    await append(signals, a_write(tenant_id="old"), now=NOON - 2)
    await append(signals, a_write(tenant_id="edge"), now=NOON - 1)
    await append(signals, a_write(tenant_id="new"), now=NOON)

    moved = await signals.moved(since=NOON - 1)

    assert moved == await signals.heads(["edge", "new"])
    assert await signals.moved(since=NOON + 1) == {}
