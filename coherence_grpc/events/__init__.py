"""Streams of what happens to a tenant, resumable from any point still in the log."""

from coherence_grpc.events.frames import (
    Batch,
    Bookmark,
    Closing,
    ClosingReason,
    Event,
    EventFilter,
    EventKind,
    Frame,
    Gap,
    Opened,
    Position,
    Positions,
    Pulled,
    Start,
)
from coherence_grpc.events.hub import Hub
from coherence_grpc.events.subscription import Subscription
from coherence_grpc.events.watch import Watch

__all__ = [
    "Batch",
    "Bookmark",
    "Closing",
    "ClosingReason",
    "Event",
    "EventFilter",
    "EventKind",
    "Frame",
    "Gap",
    "Hub",
    "Opened",
    "Position",
    "Positions",
    "Pulled",
    "Start",
    "Subscription",
    "Watch",
]
