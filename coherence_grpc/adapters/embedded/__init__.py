"""The embedded default: the stores on SQLite, the clocks, and what a data directory needs besides."""

from coherence_grpc.adapters.embedded.clock import SimulatedClock, SystemClock, open_clock, wall_us
from coherence_grpc.adapters.embedded.directory import load_signer, lock_directory
from coherence_grpc.adapters.embedded.rebuilding import empty_scores, forget_notes, rebuild_scores
from coherence_grpc.adapters.embedded.scores import open_score_store
from coherence_grpc.adapters.embedded.signals import open_signal_store

__all__ = [
    "SimulatedClock",
    "SystemClock",
    "empty_scores",
    "forget_notes",
    "load_signer",
    "lock_directory",
    "open_clock",
    "open_score_store",
    "open_signal_store",
    "rebuild_scores",
    "wall_us",
]
