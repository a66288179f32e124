"""A client of StreamSignals in a process of its own, made to be killed: it says each Ack, and what came again."""

from __future__ import annotations

import asyncio

from bench.worker import job
from tests.e2e.resuming import Streamer

AGAIN_S = 0.02
PAUSE_S = 0.02


async def _stream() -> None:
    own = job()
    streamer = Streamer(
        own["tenant"],
        own["start_us"],
        acked=own["acked"],
        pause_s=PAUSE_S,
        on_ack=lambda acked: print(acked, streamer.duplicates, flush=True),
    )
    while True:
        await streamer.run(own["address"])
        # The server was killed: it is back under the same address in a moment.
        await asyncio.sleep(AGAIN_S)


if __name__ == "__main__":
    asyncio.run(_stream())
