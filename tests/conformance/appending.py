"""A process that appends to a data directory and says what was answered, until it is killed.

Each line is the number of the last entry of an answered append.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.model import Appended
from tests.builders import ManualClock, a_write, an_item


async def main(directory: Path, round_: str) -> None:
    async with open_signal_store(directory, ManualClock()) as signals:
        count = 0
        while True:
            count += 1
            items = [an_item(signal_id=f"{round_}-{count}-{index}") for index in range(50)]
            (appended,) = await signals.append([a_write(*items, request_id=f"{round_}-{count}")], now=0)
            assert isinstance(appended, Appended)
            sys.stdout.write(f"{appended.head.seq}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
