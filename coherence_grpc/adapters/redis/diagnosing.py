"""What `coherence doctor` asks Redis beside `check`: what time it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.redis.link import Link
from coherence_grpc.adapters.redis.opening import CHECK_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.adapters.redis.link import Ask

# The first question makes the connection; the quickest one tells most.
READINGS: Final = 3
_SECOND_US: Final = 1_000_000


async def read_clock(url: str, wall: Callable[[], int]) -> tuple[int, int, int]:
    """When the server was asked and answered, both by `wall`, and between them its own time; in microseconds.

    Raises:
        SettingsInvalid, StoreDown, StoreTimeout: the message says what is wrong with it and what to do.
    """
    link = Link(url, CHECK_S)
    try:
        async with link.call() as ask:
            readings = [await _read(ask, wall) for _ in range(READINGS)]
    finally:
        await link.close()
    return min(readings, key=lambda reading: reading[1] - reading[0])


async def _read(ask: Ask, wall: Callable[[], int]) -> tuple[int, int, int]:
    asked = wall()
    seconds, micros = await ask("TIME")
    return asked, wall(), int(seconds) * _SECOND_US + int(micros)
