"""What every call carries besides its request: who calls, until when an answer is of use, how it can be cut off."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc.aio

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import Caller

    Context = grpc.aio.ServicerContext[Any, Any]

# What is left at the end of a call for the answer to travel.
MARGIN_S: Final = 0.02
# A stream has no deadline, each of its reads of a store has one.
STREAM_READ_S: Final = 10.0
# gRPC ends a connection after 5 min ± 10 % and gives its calls 30 s: streams are ended by us before that, with a
# cursor. One that starts late on an old connection is a short one.
CONNECTION_AGE_S: Final = 300.0
CONNECTION_GRACE_S: Final = 30.0
_STREAMS_END_S: Final = 0.9 * CONNECTION_AGE_S - 5
_LATE_STREAM_S: Final = CONNECTION_GRACE_S - 5


@dataclass(slots=True, eq=False)
class Call:
    """One call as the interceptors leave it to the servicer.

    `ends_at` is on the loop's clock, None for a stream; `connected_at` is when its connection was first seen;
    `cut_by` is why it is ended from outside.
    """

    task: asyncio.Task[Any] | None
    caller: Caller | None = None
    ends_at: float | None = None
    connected_at: float = 0.0
    cut_by: CoherenceError | None = None


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
        return STREAM_READ_S
    return max(0.0, ends_at - asyncio.get_running_loop().time() - MARGIN_S)


def stream_age_s() -> float:
    """How long the stream that is being served may last."""
    return max(CALL.get().connected_at + _STREAMS_END_S - asyncio.get_running_loop().time(), _LATE_STREAM_S)


def cut(call: Call, error: CoherenceError) -> None:
    """End the call with an error, from outside of its task, though it be stuck in a write."""
    if call.task is not None and call.cut_by is None:
        call.cut_by = error
        call.task.cancel()


def cutter() -> Callable[[CoherenceError], None]:
    """What cuts the call that is being served."""
    return partial(cut, CALL.get())
