"""One log line per call that failed or was slow; with level debug, per call."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.convert.calls import CALL, Call
from coherence_grpc.convert.refusals import answer_of
from coherence_grpc.errors import CoherenceError

if TYPE_CHECKING:
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.methods import Handler

SLOW_S: Final = 1.0
# What an operator should look at; anything else is the caller's business.
_OURS: Final = frozenset(("STORE_DOWN", "STORE_TIMEOUT", "STORAGE_FULL", "MIGRATION_PENDING"))
_log = logging.getLogger(__name__)


def observing(path: str, *, stream: bool, inner: Handler) -> Handler:
    """The method, with its outcome in the log."""

    async def observed(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
        CALL.set(Call())
        begun = monotonic()
        try:
            response = await inner(request, context)
        except CoherenceError as error:
            _log.log(
                logging.WARNING if error.reason in _OURS else logging.INFO,
                "call refused",
                extra={"fields": _fields(path, begun) | {"code": answer_of(error).code.name, "reason": error.reason}},
            )
            raise
        if not stream and monotonic() - begun > SLOW_S:
            _log.info("slow call", extra={"fields": _fields(path, begun)})
        elif _log.isEnabledFor(logging.DEBUG):
            _log.debug("call", extra={"fields": _fields(path, begun)})
        return response

    return observed


def _fields(path: str, begun: float) -> dict[str, object]:
    caller = CALL.get().caller
    return {
        "method": path,
        "ms": round((monotonic() - begun) * 1000, 1),
        "principal": caller.principal if caller else "",
        "transport": caller.transport if caller else "",
        "traceparent": caller.traceparent if caller else "",
    }
