"""Ports to start servers on."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

# Below those that connections of clients take: a server that is started again finds its port free.
PORTS: Final = range(20_000, 32_768)


def free_port() -> int:
    """A port that nobody listens on, out of reach of connections that leave this machine."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - a port is no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
