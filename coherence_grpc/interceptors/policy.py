"""Who may do what: decided before anything is looked up; a method without an entry is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coherence_grpc.errors import PolicyDenied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coherence_grpc.interceptors.methods import Method
    from coherence_grpc.model import Caller
    from coherence_grpc.ports import Authoriser

    Decide = Callable[[Caller, Any], Awaitable[None]]


def deciding(path: str, method: Method | None, authoriser: Authoriser) -> Decide:
    """Returns when the caller may use the method on the tenants that the request names."""

    async def anyone(_caller: Caller, _request: object) -> None:
        return

    async def nobody(_caller: Caller, _request: object) -> None:
        message = f"{path} has no policy entry, so nobody may call it"
        raise PolicyDenied(message)

    async def the_authorised(caller: Caller, request: Any) -> None:  # noqa: ANN401 - any request
        tenants = tenants_of(request)
        for tenant_id in tenants:
            await authoriser.decide(caller, scope, tenant_id)
        if not tenants:
            await authoriser.decide(caller, scope, None)
            if all_tenants and await authoriser.visible_tenants(caller) is not None:
                message = f"{caller.principal!r} may not use {scope} on all tenants; name one of its own"
                raise PolicyDenied(message)

    if method is None:
        return nobody
    scope, tenants_of, all_tenants = method.scope, method.tenants, method.all_tenants
    return the_authorised if scope else anyone
