"""Until when an answer is of use to whoever asked, for those who wait for a server on their behalf."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import OutOfTime, StoreTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

# Who is out of time is told so by the call of the server, as ever.
_LEAST_S: Final = 0.001

_ENDS_AT: Final[ContextVar[float | None]] = ContextVar("ends_at", default=None)


class Limit(NamedTuple):
    """How long a call of a server may take, and whether that is the caller's limit and not the call's own."""

    seconds: float
    hurried: bool

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the call.

        Raises:
            OutOfTime: for StoreTimeout, when it was the caller who had no more time.
        """
        try:
            yield
        except StoreTimeout as refusal:
            if self.hurried:
                raise OutOfTime(refusal.message) from refusal
            raise


def impose(ends_at: float) -> None:
    """From here on an answer is of use until then, on the loop's clock."""
    _ENDS_AT.set(ends_at)


def within(limit_s: float) -> Limit:
    """`limit_s`, or what the caller has left if that is less."""
    ends_at = _ENDS_AT.get()
    left_s = limit_s if ends_at is None else ends_at - asyncio.get_running_loop().time()
    return Limit(limit_s, hurried=False) if left_s >= limit_s else Limit(max(_LEAST_S, left_s), hurried=True)


def unhurried() -> Context:
    """The context for work that others wait for too, or that is to be done when its caller is gone."""
    context = copy_context()
    context.run(_ENDS_AT.set, None)
    return context
