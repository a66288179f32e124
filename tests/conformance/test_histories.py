"""2,000 histories of signals, replacements, policies, clock moves and restarts: every way to a score says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backends.fixtures import NEO4J, POSTGRES
from tests.conformance.homes import SCORE_HOMES, SIGNAL_HOMES
from tests.histories import live

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

BATCH = 200
BATCHES = 10
# `python -m bench.faults --only histories` lives through all of them there.
ON_SERVERS = 10


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_every_way_to_a_score_says_what_fractions_say(batch: int, tmp_path: Path) -> None:
    async with SIGNAL_HOMES["embedded"](tmp_path) as signals, SCORE_HOMES["embedded"](tmp_path) as scores:
        await live(signals.signals, scores.scores, range(batch * BATCH, (batch + 1) * BATCH))


@pytest.mark.parametrize("store", [pytest.param("neo4j", marks=[*NEO4J, POSTGRES])])
async def test_every_way_to_a_score_says_what_fractions_say_on_servers(store: str, tmp_path: Path) -> None:
    async with SIGNAL_HOMES[store](tmp_path) as signals, SCORE_HOMES["postgres"](tmp_path) as scores:
        await live(signals.signals, scores.scores, range(ON_SERVERS))
