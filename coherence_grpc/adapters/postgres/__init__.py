"""Scores and shard leases on PostgreSQL."""

from coherence_grpc.adapters.postgres.diagnosing import check_writes, read_clock
from coherence_grpc.adapters.postgres.leases import open_leases
from coherence_grpc.adapters.postgres.migrating import migrate, pending
from coherence_grpc.adapters.postgres.rebuilding import rebuild
from coherence_grpc.adapters.postgres.scores import open_score_store

__all__ = ["check_writes", "migrate", "open_leases", "open_score_store", "pending", "read_clock", "rebuild"]
