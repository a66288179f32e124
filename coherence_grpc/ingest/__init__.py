"""The one way in: publishing signals, and reading back, verifying and pruning what is stored."""

from coherence_grpc.ingest.marked import Marked
from coherence_grpc.ingest.publication import Publication, Published
from coherence_grpc.ingest.publish import Ingest
from coherence_grpc.ingest.records import PruneProgress, Records
from coherence_grpc.ingest.streaming import Streams

__all__ = ["Ingest", "Marked", "PruneProgress", "Publication", "Published", "Records", "Streams"]
