"""Scores and shard leases on PostgreSQL."""

from coherence_grpc.adapters.postgres.leases import open_leases
from coherence_grpc.adapters.postgres.migrating import migrate, pending
from coherence_grpc.adapters.postgres.rebuilding import rebuild
from coherence_grpc.adapters.postgres.scores import open_score_store

__all__ = ["migrate", "open_leases", "open_score_store", "pending", "rebuild"]
