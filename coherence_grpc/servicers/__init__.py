"""The RPCs: each converts its request, calls a use case and converts what comes back."""

from coherence_grpc.servicers.admin import AdminServicer
from coherence_grpc.servicers.cursors import Cursors
from coherence_grpc.servicers.events import EventsServicer
from coherence_grpc.servicers.histories import HistoryAnswers
from coherence_grpc.servicers.ingest import IngestServicer
from coherence_grpc.servicers.meta import MetaServicer, Server
from coherence_grpc.servicers.policies import PolicyAnswers
from coherence_grpc.servicers.score import ScoreServicer
from coherence_grpc.servicers.simulations import SimulationAnswers
from coherence_grpc.servicers.streaming import SignalStreams
from coherence_grpc.servicers.unchanged import UnchangedScores

__all__ = [
    "AdminServicer",
    "Cursors",
    "EventsServicer",
    "HistoryAnswers",
    "IngestServicer",
    "MetaServicer",
    "PolicyAnswers",
    "ScoreServicer",
    "Server",
    "SignalStreams",
    "SimulationAnswers",
    "UnchangedScores",
]
