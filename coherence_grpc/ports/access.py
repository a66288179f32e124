"""Who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coherence_grpc.model import Caller


class Authoriser(Protocol):
    """Who may do what. Fails closed."""

    async def decide(self, caller: Caller, scope: str, tenant_id: str | None) -> None:
        """Return when the caller may use the scope, on the tenant if one is named.

        Raises:
            ScopeMissing, PolicyDenied: otherwise, before anything is looked up.
        """
        ...

    async def visible_tenants(self, caller: Caller) -> frozenset[str] | None:
        """The tenants a list may show; None means all."""
        ...
