"""When each connection was first seen: its streams have to end before it does."""

from __future__ import annotations

from typing import Final

from coherence_grpc.convert.calls import CONNECTION_AGE_S, CONNECTION_GRACE_S

# No connection gets as old as this: what is seen again under the same address is another one.
_FORGET_S: Final = 1.1 * CONNECTION_AGE_S + CONNECTION_GRACE_S
_MANY: Final = 4096


class Connections:
    """Remembers the addresses that calls come from. gRPC for Python tells nothing else about connections."""

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}

    def seen(self, peer: str, now: float) -> float:
        """When the peer's connection was first seen; now, for a new one."""
        first = self._first_seen.get(peer)
        if first is None or now - first > _FORGET_S:
            first = self._first_seen[peer] = now
            if len(self._first_seen) > _MANY:
                self._first_seen = {p: t for p, t in self._first_seen.items() if now - t <= _FORGET_S}
        return first
