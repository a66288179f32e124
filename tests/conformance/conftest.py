from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders import ManualClock
from tests.conformance.homes import HOMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.ports import ScoreStore, SignalStore
    from tests.conformance.homes import Home


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=list(HOMES))
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """One adapter's stores, empty."""
    return HOMES[request.param](tmp_path)


@pytest.fixture
async def signals(home: Home, clock: ManualClock) -> AsyncIterator[SignalStore]:
    async with home.signals(clock) as store:
        yield store


@pytest.fixture
async def scores(home: Home) -> AsyncIterator[ScoreStore]:
    async with home.scores() as store:
        yield store
