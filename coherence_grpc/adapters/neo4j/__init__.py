"""The log on Neo4j."""

from coherence_grpc.adapters.neo4j.migrating import migrate, pending
from coherence_grpc.adapters.neo4j.rebuilding import rebuild
from coherence_grpc.adapters.neo4j.signals import open_signal_store

__all__ = ["migrate", "open_signal_store", "pending", "rebuild"]
