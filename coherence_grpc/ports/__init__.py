"""What the use cases need from the outside, in the domain's words. Each sentence here is a conformance test.

Whoever opens a part closes it: stores are async context managers of their adapters, and who is given one doesn't close
it. `timeout_s` is how long the caller can wait.
"""

from coherence_grpc.ports.access import Authoriser
from coherence_grpc.ports.clock import Clock
from coherence_grpc.ports.scores import PortfolioOrder, ScoreQuery, ScoreStore, rank_of
from coherence_grpc.ports.sharing import DedupeMarks, Doorbell, News, RateLimiter, ScoreCache, ShardLeases
from coherence_grpc.ports.signals import (
    Group,
    Pruned,
    Retained,
    SignalQuery,
    SignalStore,
    WindowColumns,
    WindowParts,
    WindowTotals,
)

__all__ = [
    "Authoriser",
    "Clock",
    "DedupeMarks",
    "Doorbell",
    "Group",
    "News",
    "PortfolioOrder",
    "Pruned",
    "RateLimiter",
    "Retained",
    "ScoreCache",
    "ScoreQuery",
    "ScoreStore",
    "ShardLeases",
    "SignalQuery",
    "SignalStore",
    "WindowColumns",
    "WindowParts",
    "WindowTotals",
    "rank_of",
]
