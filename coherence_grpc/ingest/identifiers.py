"""Identifiers that the server makes."""

from __future__ import annotations

import secrets
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_RANDOM: Final = Struct(">QH")
_RANDOM_MASK: Final = (1 << 62) - 1
_STAMP_MASK: Final = (1 << 60) - 1
# Asking the system for a few random bytes takes as long as for many.
_DRAWN: Final = 256


class Uuid7:
    """Makes UUIDv7s that never decrease, also when many fall into one millisecond or the clock stands still."""

    def __init__(self) -> None:
        self._stamp = 0
        self._drawn: Iterator[tuple[int, int]] = iter(())

    def next(self, now: int) -> str:
        """A new identifier of the domain instant `now`."""
        bits, start = self._draw()
        # 48 bits of milliseconds and 12 that count on within one; starting below half of them leaves room to count.
        fresh = now // 1000 << 12 | start & 0x7FF
        self._stamp = max(fresh, self._stamp + 1) & _STAMP_MASK
        high = self._stamp >> 12 << 16 | 0x7000 | self._stamp & 0xFFF
        low = 0x8000_0000_0000_0000 | bits & _RANDOM_MASK
        digits = f"{high:016x}{low:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _draw(self) -> tuple[int, int]:
        drawn = next(self._drawn, None)
        if drawn is None:
            self._drawn = _RANDOM.iter_unpack(secrets.token_bytes(_DRAWN * _RANDOM.size))
            drawn = next(self._drawn)
        return drawn


def content_id(encoding: bytes) -> str:
    """The signal_id of a signal that came with ts but without one; `encoding` is its own with an empty signal_id.

    The first 128 bits of H(0x02 ‖ encoding), in hex.
    """
    return sha256(b"\x02" + encoding).hexdigest()[:32]


def request_item_id(request_id: str, index: int) -> str:
    """The signal_id of a signal that came with neither ts nor one: item `index` of the request.

    The first 128 bits of H(0x03 ‖ index as u32 ‖ request id), in hex.
    """
    return sha256(b"\x03" + index.to_bytes(4, "big") + request_id.encode()).hexdigest()[:32]
