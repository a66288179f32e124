"""Identifiers that the server makes."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

_RANDOM_BITS: Final = 62
_STAMP_BITS: Final = 60


class Uuid7:
    """Makes UUIDv7s that never decrease, also when many fall into one millisecond or the clock stands still."""

    def __init__(self) -> None:
        self._stamp = 0

    def next(self, now: int) -> str:
        """A new identifier of the domain instant `now`."""
        # 48 bits of milliseconds and 12 that count on within one; starting below half of them leaves room to count.
        fresh = now // 1000 << 12 | secrets.randbits(11)
        self._stamp = max(fresh, self._stamp + 1) & ((1 << _STAMP_BITS) - 1)
        high = self._stamp >> 12 << 16 | 0x7000 | self._stamp & 0xFFF
        low = 0x8000_0000_0000_0000 | secrets.randbits(_RANDOM_BITS)
        digits = f"{high:016x}{low:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


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
