"""Every method that is served: which scope it asks for, whose tenants it names, what it shares its limit with."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.errors import CoherenceError, FilterInvalid, ScorePolicyInvalid, SignalInvalid, StreamInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coherence_grpc.convert.calls import Context

# What each interceptor wraps and each servicer method is: streams write to the context and return nothing.
Handler = Callable[[Any, "Context"], Awaitable[Any]]

READ: Final = "coherence:read"
WRITE: Final = "coherence:write"
SUBSCRIBE: Final = "coherence:subscribe"
ADMIN: Final = "coherence:admin"
ALL_SCOPES: Final = frozenset((READ, WRITE, SUBSCRIBE, ADMIN))

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_BYTES: Final = 1024 * 1024


def _none(_: Any) -> Sequence[str]:  # noqa: ANN401 - any request
    return ()


def _own(request: Any) -> Sequence[str]:  # noqa: ANN401 - any request with a tenant_id
    return (request.tenant_id,)


class Method(NamedTuple):
    """How one method is guarded.

    `scope` '' means that every caller may use it. `pool` names the limit it counts against. `invalid` is how
    a malformed request is refused. `tenants` are those that the request names; a method whose items are decided one by
    one, or by what the caller may see, names none here. `all_tenants`: to name none means all, which takes a caller who
    may see all. Of a method whose caller streams, the first frame names the tenants, and `max_bytes` is for each frame.
    """

    scope: str
    pool: str
    tenants: Callable[[Any], Sequence[str]] = _own
    invalid: type[CoherenceError] = FilterInvalid
    max_bytes: int = MAX_MESSAGE_BYTES
    all_tenants: bool = False

    def unopened(self) -> Method:
        """How it is guarded before the caller's first frame has come."""
        return self._replace(tenants=_none)


# How many calls of a pool may be in flight at once.
POOLS: Final[Mapping[str, int]] = {
    "ingest": 2_000,
    "score": 2_000,
    "events": 2_000,
    "streams": 10_000,
    "signal stream": 2_000,
    "meta": 200,
    "admin": 4,
    # Counted and never full: health must answer when nothing else does.
    "health": sys.maxsize,
}

METHODS: Final[Mapping[str, Method]] = {
    "/coherence.v1.IngestService/PublishSignal": Method(
        WRITE, "ingest", lambda request: (request.signal.tenant_id,), SignalInvalid, MAX_BATCH_BYTES
    ),
    "/coherence.v1.IngestService/PublishSignals": Method(WRITE, "ingest", _own, SignalInvalid, MAX_BATCH_BYTES),
    "/coherence.v1.IngestService/StreamSignals": Method(
        WRITE, "signal stream", lambda frame: (frame.open.tenant_id,), StreamInvalid, MAX_BATCH_BYTES
    ),
    "/coherence.v1.IngestService/GetSignal": Method(READ, "ingest", lambda request: (request.key.tenant_id,)),
    "/coherence.v1.IngestService/ListSignals": Method(READ, "ingest"),
    "/coherence.v1.IngestService/GetProvenance": Method(READ, "ingest"),
    "/coherence.v1.IngestService/VerifyLedger": Method(READ, "ingest"),
    "/coherence.v1.ScoreService/GetScore": Method(READ, "score"),
    "/coherence.v1.ScoreService/BatchGetScores": Method(READ, "score", _none),
    "/coherence.v1.ScoreService/ListScores": Method(READ, "score", _none),
    "/coherence.v1.ScoreService/WatchScore": Method(SUBSCRIBE, "streams", lambda request: request.tenant_ids),
    "/coherence.v1.ScoreService/ExplainScore": Method(READ, "score"),
    "/coherence.v1.ScoreService/ListScoreHistory": Method(READ, "score"),
    "/coherence.v1.ScoreService/SimulateScore": Method(READ, "score"),
    "/coherence.v1.ScoreService/GetScorePolicy": Method(READ, "score"),
    "/coherence.v1.ScoreService/ListScorePolicyVersions": Method(READ, "score"),
    "/coherence.v1.ScoreService/UpdateScorePolicy": Method(ADMIN, "score", invalid=ScorePolicyInvalid),
    "/coherence.v1.ScoreService/RecomputeScore": Method(ADMIN, "score"),
    "/coherence.v1.EventsService/Subscribe": Method(SUBSCRIBE, "streams"),
    "/coherence.v1.EventsService/PullEvents": Method(SUBSCRIBE, "events"),
    "/coherence.v1.EventsService/GetCursor": Method(SUBSCRIBE, "events"),
    "/coherence.v1.MetaService/GetServerInfo": Method("", "meta", _none),
    "/coherence.v1.AdminService/Prune": Method(
        ADMIN, "admin", lambda request: (request.tenant_id,) if request.tenant_id else (), all_tenants=True
    ),
}

# Whoever can reach the port may ask this; it is neither limited nor authorised.
EXEMPT: Final = ("grpc.health.v1.Health",)
EXEMPT_POOL: Final = "health"
