"""A stream that is cut off and resumed, over and over, while the store comes and goes: every signal once, in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.errors import CoherenceError, OutcomeUnknown, StoreDown, StoreTimeout
from coherence_grpc.ingest import pipeline
from coherence_grpc.ingest.streamed import Ack, Closing
from coherence_grpc.model import OnConflict
from tests.builders import a_draft
from tests.unit.streaming import World, open_world, taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.ingest.streaming import SignalStream
    from coherence_grpc.model import Draft, Item, Write

BATCHES = 10
SHARED = "shared"


class Connection(NamedTuple):
    """Batches that are sent on it, frames that are taken before it is cut, and what becomes of its commits in turn."""

    sends: int
    takes: int
    commits: Sequence[type[CoherenceError] | None]


@dataclass
class Client:
    """Sends numbered batches, each of a signal of its own and one that all of them share."""

    world: World
    on_conflict: OnConflict
    acked: int = 0

    async def connect(self, connection: Connection) -> None:
        """Open the stream where the last Ack says, and send on until it is cut."""
        _will(self.world, connection.commits)
        async with self.world.opened(acked_through=self.acked, on_conflict=self.on_conflict) as (stream, feed):
            last = min(BATCHES, self.acked + connection.sends)
            for number in range(self.acked + 1, last + 1):
                feed.batch(*_signals(number))
            await self._take(stream, connection.takes, last)

    async def finish(self) -> None:
        """Send the rest, and wait until the server says that it has all."""
        _will(self.world, ())
        async with self.world.opened(acked_through=self.acked, on_conflict=self.on_conflict) as (stream, feed):
            for number in range(self.acked + 1, BATCHES + 1):
                feed.batch(*_signals(number))
            feed.end()
            async for frame in stream:
                await self._note(frame)
            assert isinstance(frame, Closing)
            assert frame.acked_through == BATCHES

    async def _take(self, stream: SignalStream, takes: int, last: int) -> None:
        for _ in range(takes):
            if self.acked == last:
                return
            await self._note(await taken(stream))

    async def _note(self, frame: object) -> None:
        if not isinstance(frame, Ack):
            return
        assert self.acked < frame.acked_through
        self.acked = frame.acked_through
        stored = await self.world.stored()
        # Never ahead of the commit.
        assert set(map(_own, range(1, self.acked + 1))) <= set(stored)
        assert frame.head is not None
        assert frame.head.seq <= len(stored)


def _own(number: int) -> str:
    return f"own-{number:02}"


def _signals(number: int) -> Sequence[Item | Draft]:
    return a_draft(signal_id=_own(number)), a_draft(signal_id=SHARED, value=number / 100)


def _will(world: World, commits: Sequence[type[CoherenceError] | None]) -> None:
    """The next commits fail like this, before they are made or, for OutcomeUnknown, after."""
    left = list(commits)

    def before(_: Sequence[Write]) -> None:
        error = left[0] if left else None
        if error is not None and error is not OutcomeUnknown:
            left.pop(0)
            message = "away"
            raise error(message)

    def after(_: Sequence[Write]) -> None:
        if left and left.pop(0) is not None:
            message = "lost"
            raise OutcomeUnknown(message)

    world.store.before, world.store.after = before, after


connections = st.builds(
    Connection,
    sends=st.integers(0, BATCHES),
    takes=st.integers(0, 4),
    commits=st.lists(st.sampled_from([None, StoreDown, StoreTimeout, OutcomeUnknown]), max_size=4),
)


@settings(deadline=None, max_examples=40)
@given(script=st.lists(connections, max_size=6), on_conflict=st.sampled_from(OnConflict))
def test_over_any_cuts_and_absences_of_the_store_every_signal_is_stored_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, script: list[Connection], on_conflict: OnConflict
) -> None:
    async def play() -> None:
        async with open_world(tmp_path_factory.mktemp("log")) as world:
            client = Client(world, on_conflict)
            for connection in script:
                await client.connect(connection)
            await client.finish()

            stored = await world.stored()
            own = [name for name in stored if name != SHARED]
            assert own == [_own(number) for number in range(1, BATCHES + 1)]
            # Each of them has, or has refused, the one signal that they share.
            signal = await world.signal(SHARED)
            replacing = on_conflict is OnConflict.REPLACE
            assert signal.item.value_q == (BATCHES if replacing else 1) * 10**7
            assert stored.count(SHARED) == (BATCHES if replacing else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_FIRST_RETRY_S", 0.001)
        asyncio.run(play())
