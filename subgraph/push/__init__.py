"""HTTP push: POST /v1/coherence/signals."""

from subgraph.push.endpoint import push_handler

__all__ = ["push_handler"]
