"""SignalStore.policy and SignalStore.policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import DAY, EntryKind, Retention, Status, Tags
from coherence_grpc.policy import UNWRITTEN, PolicyVersion, ScorePolicy, Veto, encode_policy, etag_of
from tests.builders import NOON, TENANT, ManualClock, a_provenance, a_write, an_item
from tests.conformance.asking import append, append_items

if TYPE_CHECKING:
    from coherence_grpc.ports import SignalStore
    from tests.conformance.homes import SignalHome

pytestmark = pytest.mark.anyio

RICH = ScorePolicy(
    window_us=2 * DAY,
    half_life_us=DAY,
    hysteresis_ppm=20_000,
    dwell_us=3_600_000_000,
    minimum_signals=3,
    stale_after_us=DAY,
    vetoes=(Veto("Störung", 100_000_000, Status.CRITICAL),),
    type_weights=(("ok", 500_000),),
    source_cap_ppm=400_000,
)


async def put(signals: SignalStore, policy: ScorePolicy, *, tenant_id: str = TENANT, now: int = NOON) -> PolicyVersion:
    """The policy as the log now holds it."""
    payload, provenance = encode_policy(policy), a_provenance(tenant_id=tenant_id)
    entry = await signals.append_own(tenant_id, EntryKind.POLICY, payload, provenance, now=now)
    return PolicyVersion(entry.seq, policy, etag_of(entry.seq, payload), entry.recorded_at, entry.provenance_id)


async def three(signals: SignalStore) -> list[PolicyVersion]:
    """Versions at 2, 4 and 6, among other entries."""
    versions = []
    for number in (1, 2, 3):
        await append_items(signals, an_item())
        versions.append(await put(signals, ScorePolicy(minimum_signals=number), now=NOON + number))
    await signals.append_own(TENANT, EntryKind.RECOMPUTE, b"", a_provenance(), now=NOON)
    return versions


async def test_there_is_none_until_one_is_written(signals: SignalStore) -> None:
    await append_items(signals, an_item())

    assert await signals.policy(TENANT) == await signals.policy("nobody") == UNWRITTEN
    assert await signals.policies(TENANT, before=None, limit=10) == []


@pytest.mark.parametrize("policy", [ScorePolicy(), RICH])
async def test_a_policy_is_read_back_as_it_was_written(
    signal_home: SignalHome, clock: ManualClock, policy: ScorePolicy
) -> None:
    async with signal_home.signals(clock) as signals:
        written = await put(signals, policy)

    async with signal_home.signals(clock) as signals:
        assert await signals.policy(TENANT) == written
        assert written.policy == policy


async def test_the_newest_is_the_tenants_policy(signals: SignalStore) -> None:
    *_, newest = await three(signals)

    assert await signals.policy(TENANT) == newest


async def test_at_an_entry_it_is_the_newest_up_to_there(signals: SignalStore) -> None:
    first, second, third = await three(signals)

    found = [await signals.policy(TENANT, at=seq) for seq in (0, 1, 2, 3, 4, 5, 6, 99)]

    assert found == [UNWRITTEN, UNWRITTEN, first, first, second, second, third, third]


async def test_policies_come_newest_first_below_a_number_and_at_most_so_many(signals: SignalStore) -> None:
    first, second, third = await three(signals)

    assert await signals.policies(TENANT, before=None, limit=10) == [third, second, first]
    assert await signals.policies(TENANT, before=None, limit=2) == [third, second]
    assert await signals.policies(TENANT, before=second.seq, limit=2) == [first]
    assert await signals.policies(TENANT, before=first.seq, limit=2) == []


async def test_policies_belong_to_their_tenant(signals: SignalStore) -> None:
    own = await put(signals, ScorePolicy(minimum_signals=2))
    other = await put(signals, ScorePolicy(minimum_signals=3), tenant_id="other")

    assert await signals.policies(TENANT, before=None, limit=10) == [own]
    assert await signals.policies("other", before=None, limit=10) == [other]


async def test_none_is_ever_erased(signals: SignalStore) -> None:
    tags = Tags(retention=Retention.SHORT)
    await append(signals, a_write(an_item(ts=NOON - 40 * DAY), tags=tags))
    versions = await three(signals)

    await signals.prune(TENANT, now=NOON + 4000 * DAY, provenance=a_provenance(), limit=10, dry_run=False)

    assert await signals.policies(TENANT, before=None, limit=10) == versions[::-1]
