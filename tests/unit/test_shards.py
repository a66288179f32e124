"""Shards of tenants."""

from __future__ import annotations

from collections import Counter

from coherence_grpc.shards import shard_of


def test_a_tenant_s_shard_is_the_same_in_every_release() -> None:
    assert [shard_of(tenant_id, 64) for tenant_id in ("acme", "jfk", "tenant-1", "tenant-2")] == [1, 18, 51, 29]


def test_tenants_spread_over_all_shards() -> None:
    counts = Counter(shard_of(f"tenant-{n}", 64) for n in range(6400))

    assert set(counts) == set(range(64))
    assert max(counts.values()) < 160
