from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders import ManualClock
from tests.conformance.homes import MARKS, SCORE_HOMES, SIGNAL_HOMES
from tests.conformance.on_neo4j import a_migrated_graph
from tests.conformance.on_postgres import a_migrated_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from _pytest.mark.structures import ParameterSet

    from coherence_grpc.ports import ScoreStore, SignalStore
    from tests.conformance.homes import ScoreHome, SignalHome
    from tests.conformance.on_neo4j import Neo4jHome
    from tests.conformance.on_postgres import Schema


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _each_of(homes: Iterable[str]) -> Sequence[ParameterSet]:
    return [pytest.param(name, marks=MARKS.get(name, ())) for name in homes]


@pytest.fixture(params=_each_of(SIGNAL_HOMES))
async def signal_home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SignalHome]:
    """One adapter's signal store, empty."""
    async with SIGNAL_HOMES[request.param](tmp_path) as home:
        yield home


@pytest.fixture(params=_each_of(SCORE_HOMES))
async def score_home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ScoreHome]:
    """One adapter's score store, empty."""
    async with SCORE_HOMES[request.param](tmp_path) as home:
        yield home


@pytest.fixture
async def signals(signal_home: SignalHome, clock: ManualClock) -> AsyncIterator[SignalStore]:
    async with signal_home.signals(clock) as store:
        yield store


@pytest.fixture
async def scores(score_home: ScoreHome) -> AsyncIterator[ScoreStore]:
    async with score_home.scores() as store:
        yield store


@pytest.fixture
async def schema(postgres_uri: str) -> AsyncIterator[Schema]:
    """On PostgreSQL, with the tables of this release."""
    async with a_migrated_schema(postgres_uri) as migrated:
        yield migrated


@pytest.fixture
async def migrated_graph() -> AsyncIterator[Neo4jHome]:
    """On Neo4j, without nodes but for what the migrations of this release make; for tests with the marks `NEO4J`."""
    async with a_migrated_graph() as home:
        yield home
