"""`python -m subgraph`: the subgraph as a process of its own, the child of `coherence serve`."""

from __future__ import annotations

import os
import sys

import uvloop

from coherence_grpc import telemetry
from subgraph.config import ConfigInvalid, read_config
from subgraph.server import serve


def main() -> int:
    """Serve until told to stop; 2 when the environment can't be used, 1 when the address can't."""
    try:
        config = read_config(os.environ)
    except ConfigInvalid as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    telemetry.configure(config.log_level)
    try:
        uvloop.run(serve(config))
    except OSError as exc:
        sys.stderr.write(
            f"can't listen on {config.host}:{config.port}: {exc.strerror or exc}; give another COHERENCE_HTTP\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
