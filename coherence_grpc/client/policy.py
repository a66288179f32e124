"""How a channel behaves: what is tried again, how connections are watched, how large a message may be."""

from __future__ import annotations

import json
from typing import Any, Final

MAX_RECEIVE_BYTES: Final = 16 * 1024 * 1024
# A call whose message doesn't fit in this buffer is not tried again; a publish has at most 1 MiB.
RETRY_BUFFER_BYTES: Final = 4 * 1024 * 1024
UNARY_TIMEOUT_S: Final = 10.0

# Reads, and writes: these carry a request id, so that a second attempt stores nothing twice.
_RETRIED: Final = {
    "coherence.v1.IngestService": (
        "PublishSignal",
        "PublishSignals",
        "GetSignal",
        "ListSignals",
        "GetProvenance",
        "VerifyLedger",
    ),
    "coherence.v1.ScoreService": (
        "GetScore",
        "BatchGetScores",
        "ListScores",
        "ExplainScore",
        "ListScoreHistory",
        "SimulateScore",
        "GetScorePolicy",
        "ListScorePolicyVersions",
        "UpdateScorePolicy",
        "RecomputeScore",
    ),
    "coherence.v1.EventsService": ("PullEvents", "GetCursor"),
    "coherence.v1.MetaService": ("GetServerInfo",),
}

SERVICE_CONFIG: Final[dict[str, Any]] = {  # the JSON of gRPC's service config
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method} for service, methods in _RETRIED.items() for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


CHANNEL_OPTIONS: Final[list[tuple[str, Any]]] = [  # what grpc takes as channel arguments
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # The server says what is too large, with a remedy.
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A restarted server is found again within a second or two.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection of its own: a server takes 100 streams on each, and what is beyond waits.
    ("grpc.use_local_subchannel_pool", 1),
    # A proxy for the web, set in the environment, is not the way to a backbone.
    ("grpc.enable_http_proxy", 0),
]
