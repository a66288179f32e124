"""Every unary call ends: at its caller's deadline, after 10 s at most, after 3 s when the caller named none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.convert.calls import CALL
from coherence_grpc.errors import StoreTimeout

if TYPE_CHECKING:
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.methods import Handler

DEFAULT_S: Final = 3.0
CAP_S: Final = 10.0


def within_deadline(inner: Handler) -> Handler:
    """The unary method, ended when its time has run out."""

    async def limited(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
        remaining = context.time_remaining()
        # None without a deadline, whatever the types say.
        allowed = DEFAULT_S if remaining is None else min(remaining, CAP_S)
        CALL.get().ends_at = asyncio.get_running_loop().time() + allowed
        try:
            async with asyncio.timeout(allowed):
                return await inner(request, context)
        except TimeoutError:
            message = f"no answer within {allowed:.1f} s; try again, or allow more time (at most {CAP_S:.0f} s)"
            raise StoreTimeout(message) from None

    return limited
