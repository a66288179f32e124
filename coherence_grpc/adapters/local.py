"""The local authoriser: what a caller carries decides; nothing is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import PolicyDenied, ScopeMissing

if TYPE_CHECKING:
    from coherence_grpc.model import Caller


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
