"""The log on Neo4j."""

from coherence_grpc.adapters.neo4j.diagnosing import check_writes, read_clock
from coherence_grpc.adapters.neo4j.migrating import migrate, pending
from coherence_grpc.adapters.neo4j.rebuilding import rebuild
from coherence_grpc.adapters.neo4j.signals import open_signal_store

__all__ = ["check_writes", "migrate", "open_signal_store", "pending", "read_clock", "rebuild"]
