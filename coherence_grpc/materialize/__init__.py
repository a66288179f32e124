"""One live score per tenant: exact windows, published rows, and the reads on top of them."""

from coherence_grpc.materialize.acting import Rule, RuleAction
from coherence_grpc.materialize.checking import check_stores
from coherence_grpc.materialize.explaining import Explanations
from coherence_grpc.materialize.explanation import Contribution, ContributionGroup, Exclusion, Explanation
from coherence_grpc.materialize.following import Follower
from coherence_grpc.materialize.history import History
from coherence_grpc.materialize.leases import EveryShard
from coherence_grpc.materialize.materializer import Materializer
from coherence_grpc.materialize.moves import MoveReason, NextMove
from coherence_grpc.materialize.policies import Policies, PolicyChange, check_policy
from coherence_grpc.materialize.portfolio import Listed, Portfolio, Trend
from coherence_grpc.materialize.published import PublishedScores
from coherence_grpc.materialize.recomputed import RecomputedHistory
from coherence_grpc.materialize.scored import ScoredWrites
from coherence_grpc.materialize.scores import Scores
from coherence_grpc.materialize.simulation import Difference, Simulated, Simulation, WhatIf
from coherence_grpc.materialize.sweeping import Sweeps

__all__ = [
    "Contribution",
    "ContributionGroup",
    "Difference",
    "EveryShard",
    "Exclusion",
    "Explanation",
    "Explanations",
    "Follower",
    "History",
    "Listed",
    "Materializer",
    "MoveReason",
    "NextMove",
    "Policies",
    "PolicyChange",
    "Portfolio",
    "PublishedScores",
    "RecomputedHistory",
    "Rule",
    "RuleAction",
    "ScoredWrites",
    "Scores",
    "Simulated",
    "Simulation",
    "Sweeps",
    "Trend",
    "WhatIf",
    "check_policy",
    "check_stores",
]
