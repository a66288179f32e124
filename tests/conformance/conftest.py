from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders import ManualClock
from tests.conformance.homes import SCORE_HOMES, SIGNAL_HOMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.ports import ScoreStore, SignalStore
    from tests.conformance.homes import ScoreHome, SignalHome


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=list(SIGNAL_HOMES))
def signal_home(request: pytest.FixtureRequest, tmp_path: Path) -> SignalHome:
    """One adapter's signal store, empty."""
    return SIGNAL_HOMES[request.param](tmp_path)


@pytest.fixture(params=list(SCORE_HOMES))
def score_home(request: pytest.FixtureRequest, tmp_path: Path) -> ScoreHome:
    """One adapter's score store, empty."""
    return SCORE_HOMES[request.param](tmp_path)


@pytest.fixture
async def signals(signal_home: SignalHome, clock: ManualClock) -> AsyncIterator[SignalStore]:
    async with signal_home.signals(clock) as store:
        yield store


@pytest.fixture
async def scores(score_home: ScoreHome) -> AsyncIterator[ScoreStore]:
    async with score_home.scores() as store:
        yield store
