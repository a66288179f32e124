"""The parts of a process that shares nothing with others but its stores, if those: nothing is looked up anywhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import PolicyDenied, ScopeMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coherence_grpc.model import Caller, Key, Score
    from coherence_grpc.ports import News

# Below so many tenants nothing is forgotten: it would cost more than it saves.
FEW_TENANTS: Final = 1024
# A shorter wait is what the last digits of a float make.
INSTANT_S: Final = 1e-6

_log = logging.getLogger(__name__)


class CarriedGrants:
    """Lets a caller do what its scopes say, on its own tenants."""

    async def decide(self, caller: Caller, scope: str, tenant_id: str | None) -> None:
        """Return when the caller has the scope and, if a tenant is named, the tenant."""
        if scope not in caller.scopes:
            message = f"{caller.principal!r} lacks the scope {scope}; ask for a token that has it"
            raise ScopeMissing(message, metadata={"scope": scope})
        if tenant_id is not None and caller.tenants is not None and tenant_id not in caller.tenants:
            message = f"{caller.principal!r} may not use {scope} there; name a tenant of its own"
            raise PolicyDenied(message)

    async def visible_tenants(self, caller: Caller) -> frozenset[str] | None:
        """The caller's own tenants; None means all."""
        return caller.tenants


class NoDoorbell:
    """Tells nobody: everybody finds out by asking the stores."""

    def ring(self, news: News) -> None:
        """Nobody hears it."""

    def listen(self, on_news: Callable[[News], None]) -> None:
        """`on_news` is never called."""


class LocalDoorbell:
    """Tells this process what it rang, at once."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[News], None]] = []

    def ring(self, news: News) -> None:
        """Everybody who listens has heard it when this returns."""
        for listener in self._listeners:
            try:
                listener(news)
            except Exception:  # noqa: BLE001 - logged; who rings must not fail for who listens
                _log.exception("a listener of the doorbell failed")

    def listen(self, on_news: Callable[[News], None]) -> None:
        """`on_news` is called with what is rung from here on."""
        self._listeners.append(on_news)


class NoMarks:
    """Nothing is known: the log decides."""

    async def known(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes]) -> Sequence[int]:  # noqa: ARG002 - the port's
        """0 for each key."""
        return [0] * len(keys)

    async def mark(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes], seqs: Sequence[int]) -> None:
        """Nothing is remembered."""


class NoCache:
    """Nothing is there: the score store is asked."""

    async def get(self, tenant_ids: Sequence[str]) -> Mapping[str, Score]:  # noqa: ARG002 - the port's
        """No rows."""
        return {}

    async def put(self, scores: Sequence[Score]) -> None:
        """Nothing is kept."""


class LocalRateLimiter:
    """Counts the requests of this process (GCRA): rates are per second and None is no limit.

    `burst_s` seconds' worth of requests, but one at least, may come at once. A request that costs more than that may
    pass when nothing was used for as long.
    """

    def __init__(
        self,
        rps_tenant: float | None,
        rps_global: float | None,
        *,
        burst_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rps_tenant = rps_tenant
        self._rps_global = rps_global
        self._burst_s = burst_s
        self._monotonic = monotonic
        # When what a tenant has used so far will have been made up for; '' stands for all together.
        self._even_at: dict[str, float] = {}
        self._forget_at = FEW_TENANTS

    async def admit(self, tenant_id: str, *, cost: int = 1) -> float:
        """0, or the seconds after which the request could go on."""
        now = self._monotonic()
        even_at: dict[str, float] = {}
        wait_s = 0.0
        for name, rps in ((tenant_id, self._rps_tenant), ("", self._rps_global)):
            if rps is not None:
                even_at[name] = max(now, self._even_at.get(name, now)) + cost / rps
                wait_s = max(wait_s, even_at[name] - now - max(self._burst_s, 1 / rps, cost / rps))
        if wait_s > INSTANT_S:
            return wait_s
        self._even_at.update(even_at)
        if len(self._even_at) > self._forget_at:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Who is even needs no remembering."""
        self._even_at = {name: even_at for name, even_at in self._even_at.items() if even_at > now}
        self._forget_at = max(FEW_TENANTS, 2 * len(self._even_at))
