"""The demo's course: every departure is published when it becomes known, by the server's clock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import grpc.aio

from coherence.v1.meta_pb2 import GetServerInfoRequest
from coherence_grpc.cli.demo.feed import hours_between
from coherence_grpc.cli.failure import refused
from coherence_grpc.cli.instants import micros
from coherence_grpc.cli.scores import scores_of
from coherence_grpc.cli.sending import Sending
from coherence_grpc.cli.session import refusal_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence.v1.score_pb2 import Score
    from coherence.v1.signal_pb2 import Signal
    from coherence_grpc.cli.demo.board import Board
    from coherence_grpc.cli.demo.feed import Feed
    from coherence_grpc.cli.demo.service import Service
    from coherence_grpc.client import Client

TICK_S: Final = 0.05
LOOK_EVERY_S: Final = 0.25
MAX_BATCH: Final = 1_000
EARLIER: Final = Sending(purpose="demo", retention="unlimited", backfill=True)
LIVE: Final = Sending(purpose="demo", retention="unlimited")


class Play:
    """One run, from the start of the simulated clock to `until` (None: as long as anybody looks)."""

    def __init__(
        self, client: Client, service: Service, feed: Feed, board: Board, tenants: Sequence[str], *, until: int | None
    ) -> None:
        self._client = client
        self._service = service
        self._feed = feed
        self._board = board
        self._tenants = tenants
        self._until = until
        self._looked_at = 0.0

    async def run(self, start: int) -> None:
        """Send what was known at the start, then keep up with the clock."""
        begun = time.monotonic()
        try:
            await self._send(start, EARLIER)
            await self._keep_up(start)
        except grpc.aio.AioRpcError:
            # Better said than "can't be reached", when that is why.
            await self._service.check()
            raise
        self._board.ending(self._feed.handed_out, time.monotonic() - begun)

    async def _keep_up(self, start: int) -> None:
        # The first hour is the start itself.
        reached = start - 1
        while self._until is None or reached < self._until:
            now = await self._now()
            if self._until is not None:
                now = min(now, self._until)
            await self._catch_up(reached, now)
            reached = now
            await self._look()
            await asyncio.sleep(TICK_S)

    async def _catch_up(self, reached: int, now: int) -> None:
        """Publish what became known until now; the scores of a full hour are asked for when just that was sent."""
        for hour in hours_between(reached, now):
            await self._send(hour, LIVE)
            self._board.hour(hour, await self._scores(as_of=hour))
        await self._send(now, LIVE)

    async def _send(self, until: int, sending: Sending) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for tenant, departures in self._feed.due(until).items():
                    group.create_task(self._publish(tenant, [one.signal() for one in departures], sending))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _publish(self, tenant: str, signals: list[Signal], sending: Sending) -> None:
        for first in range(0, len(signals), MAX_BATCH):
            response = await sending.publish(self._client, tenant, signals[first : first + MAX_BATCH], "")
            for result in response.results:
                if result.HasField("error"):
                    raise refused(refusal_in(result.error), self._client.address)

    async def _now(self) -> int:
        """The server's clock, which decides what is due."""
        info = await self._client.meta.GetServerInfo(GetServerInfoRequest())
        return micros(info.clock.now_time)

    async def _look(self) -> None:
        if self._board.live and time.monotonic() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self._board.between(await self._scores(), self._feed.handed_out)

    async def _scores(self, as_of: int | None = None) -> list[Score]:
        results = await scores_of(self._client, self._tenants, as_of=as_of)
        for result in results:
            if result.HasField("error"):
                raise refused(refusal_in(result.error), self._client.address)
        return [result.score for result in results]
