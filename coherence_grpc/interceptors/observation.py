"""Telemetry: one log line per call that failed or was slow; with level debug, per call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from coherence_grpc.convert.refusals import answer_of

if TYPE_CHECKING:
    from coherence_grpc.convert.calls import Call
    from coherence_grpc.errors import CoherenceError

SLOW_S: Final = 1.0
# What an operator should look at; anything else is the caller's business.
_OURS: Final = frozenset(("STORE_DOWN", "STORE_TIMEOUT", "STORAGE_FULL", "MIGRATION_PENDING"))
_log = logging.getLogger(__name__)


def note_refused(path: str, call: Call, took_s: float, error: CoherenceError) -> None:
    """Log a refusal, with its reason."""
    level = logging.WARNING if error.reason in _OURS else logging.INFO
    if _log.isEnabledFor(level):
        outcome = {"code": answer_of(error).code.name, "reason": error.reason}
        _log.log(level, "call refused", extra={"fields": _fields(path, call, took_s) | outcome})


def note_served(path: str, call: Call, took_s: float, *, stream: bool) -> None:
    """Log a call that took long, or any when asked for."""
    if took_s > SLOW_S and not stream:
        _log.info("slow call", extra={"fields": _fields(path, call, took_s)})
    elif _log.isEnabledFor(logging.DEBUG):
        _log.debug("call", extra={"fields": _fields(path, call, took_s)})


def _fields(path: str, call: Call, took_s: float) -> dict[str, object]:
    caller = call.caller
    return {
        "method": path,
        "ms": round(took_s * 1000, 1),
        "principal": caller.principal if caller else "",
        "transport": caller.transport if caller else "",
        "traceparent": caller.traceparent if caller else "",
    }
