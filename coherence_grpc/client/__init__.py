"""The Python client of the backbone.

`connect` (for asyncio) and `connect_sync` give a client with typed methods, a Publisher that loses nothing, and
iterators that resume by themselves; every failure is a `Refused`. docs/client.md shows it all.
"""

from coherence_grpc.client.blocking import EventIteration, Iteration, SyncClient, SyncPublisher, connect_sync
from coherence_grpc.client.client import Client
from coherence_grpc.client.connection import connect
from coherence_grpc.client.credentials import TLS, Token
from coherence_grpc.client.events import EventStream
from coherence_grpc.client.failures import (
    Conflict,
    CursorExpired,
    Exhausted,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    Outdated,
    OutOfRange,
    PublishIncomplete,
    Refused,
    TimedOut,
    Unavailable,
    may_pass,
)
from coherence_grpc.client.findings import Explanation, History, Recomputed, Simulation
from coherence_grpc.client.model import (
    Event,
    EventKind,
    Gap,
    Outcome,
    Published,
    Score,
    ScoreOrder,
    ScoreSource,
    ScoreUpdate,
    Signal,
    Status,
    StoredSignal,
    Tags,
    Trend,
)
from coherence_grpc.client.policies import PolicyChanges, ScorePolicy, Veto
from coherence_grpc.client.publisher import Publisher, PublisherStats, Rejection
from coherence_grpc.client.refusal import Refusal, refusal_of, refusal_of_status

__all__ = [
    "TLS",
    "Client",
    "Conflict",
    "CursorExpired",
    "Event",
    "EventIteration",
    "EventKind",
    "EventStream",
    "Exhausted",
    "Explanation",
    "Forbidden",
    "Gap",
    "History",
    "Invalid",
    "Iteration",
    "NotAuthenticated",
    "NotFound",
    "OutOfRange",
    "Outcome",
    "Outdated",
    "PolicyChanges",
    "PublishIncomplete",
    "Published",
    "Publisher",
    "PublisherStats",
    "Recomputed",
    "Refusal",
    "Refused",
    "Rejection",
    "Score",
    "ScoreOrder",
    "ScorePolicy",
    "ScoreSource",
    "ScoreUpdate",
    "Signal",
    "Simulation",
    "Status",
    "StoredSignal",
    "SyncClient",
    "SyncPublisher",
    "Tags",
    "TimedOut",
    "Token",
    "Trend",
    "Unavailable",
    "Veto",
    "connect",
    "connect_sync",
    "may_pass",
    "refusal_of",
    "refusal_of_status",
]
