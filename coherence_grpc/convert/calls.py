"""What every call carries besides its request: who calls, and until when an answer is of use."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import grpc.aio

    from coherence_grpc.model import Caller

    Context = grpc.aio.ServicerContext[Any, Any]

# What is left at the end of a call for the answer to travel.
MARGIN_S: Final = 0.02


@dataclass(slots=True)
class Call:
    """One call as the interceptors leave it to the servicer: `ends_at` is on the loop's clock, None for a stream."""

    caller: Caller | None = None
    ends_at: float | None = None


CALL: Final[ContextVar[Call]] = ContextVar("call")


def caller() -> Caller:
    """Who makes the call that is being served."""
    found = CALL.get().caller
    if found is None:
        message = "the call was not authenticated"
        raise RuntimeError(message)
    return found


def timeout_s() -> float:
    """How long the call that is being served may still wait for a store."""
    ends_at = CALL.get().ends_at
    if ends_at is None:
        return STREAM_STEP_S
    return max(0.0, ends_at - asyncio.get_running_loop().time() - MARGIN_S)


# A stream has no deadline of its own, its reads of the stores have.
STREAM_STEP_S: Final = 10.0
