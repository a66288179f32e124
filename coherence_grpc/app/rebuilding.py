"""Scores thrown away on whatever stores the settings name, to be computed anew from the signals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from coherence_grpc.adapters import embedded
from coherence_grpc.model import SECOND

if TYPE_CHECKING:
    from coherence_grpc.config import Settings


class Epochs(NamedTuple):
    """The epochs of the two stores."""

    signals: int
    scores: int


async def rebuild(settings: Settings) -> Epochs:
    """Empties the score store and raises both epochs; nothing may serve them meanwhile.

    Positions issued before expire. On servers an epoch is the second of the rebuilding, so that it is above any that
    a copy put back later may hold.

    Raises:
        DataRefused: the data directory is served, or has no signals.
        StoreDown, StoreTimeout: a server can't be reached.
    """
    if settings.neo4j_uri is None and settings.postgres_uri is None:
        return Epochs(*await asyncio.to_thread(embedded.rebuild_scores, settings.data))
    at_least = embedded.SystemClock().now() // SECOND
    # The scores first: stopped in between, the notes are of an older epoch than the scores and say nothing.
    scores = await _scores(settings, at_least)
    return Epochs(await _signals(settings, at_least), scores)


async def _scores(settings: Settings, at_least: int) -> int:
    if settings.postgres_uri is None:
        return await asyncio.to_thread(embedded.empty_scores, settings.data, at_least=at_least)
    from coherence_grpc.adapters import postgres

    return await postgres.rebuild(settings.postgres_uri, at_least=at_least)


async def _signals(settings: Settings, at_least: int) -> int:
    if settings.neo4j_uri is None:
        return await asyncio.to_thread(embedded.forget_notes, settings.data, at_least=at_least)
    from coherence_grpc.adapters import neo4j

    login = settings.neo4j_uri, settings.neo4j_user, settings.neo4j_password or ""
    return await neo4j.rebuild(*login, at_least=at_least)
