"""Who may do what: decided before anything is looked up; a method without an entry is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coherence_grpc.convert.calls import caller
from coherence_grpc.errors import PolicyDenied

if TYPE_CHECKING:
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.methods import Handler, Method
    from coherence_grpc.ports import Authoriser


def authorising(path: str, method: Method | None, authoriser: Authoriser, inner: Handler) -> Handler:
    """The method, for those whom the policy lets use it on the tenants that the request names."""
    if method is None:
        return _denying(path)
    scope, tenants_of = method.scope, method.tenants

    async def authorised(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
        if scope:
            who = caller()
            tenants = tenants_of(request)
            for tenant_id in tenants:
                await authoriser.decide(who, scope, tenant_id)
            if not tenants:
                await authoriser.decide(who, scope, None)
        return await inner(request, context)

    return authorised


def _denying(path: str) -> Handler:
    async def denied(_request: Any, _context: Context) -> Any:  # noqa: ANN401 - any request and response
        message = f"{path} has no policy entry, so nobody may call it"
        raise PolicyDenied(message)

    return denied
