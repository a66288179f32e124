"""The schema of each store that the settings name: what is applied, what is due, and bringing it up to date."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from coherence_grpc.config import Settings


_Step = Callable[[], Awaitable[Sequence[str]]]


class Migrated(NamedTuple):
    """A store by its name for people, and names of migrations in their order."""

    store: str
    migrations: Sequence[str]


async def pending(settings: Settings) -> Sequence[Migrated]:
    """What is due on each server; the files of a data directory are brought up to date when they are opened.

    Raises:
        StoreDown, StoreTimeout: a server can't be reached.
    """
    return [Migrated(store, await ask()) for store, ask, _ in _servers(settings)]


async def migrate(settings: Settings) -> Sequence[Migrated]:
    """Applies what is due on each server and says what it was; several processes may do so at once.

    Raises:
        StoreDown, StoreTimeout: a server can't be reached.
    """
    return [Migrated(store, await apply()) for store, _, apply in _servers(settings)]


def _servers(settings: Settings) -> Sequence[tuple[str, _Step, _Step]]:
    servers: list[tuple[str, _Step, _Step]] = []
    if settings.neo4j_uri is not None:
        from coherence_grpc.adapters import neo4j

        login = settings.neo4j_uri, settings.neo4j_user, settings.neo4j_password or ""
        servers.append(("neo4j", lambda: neo4j.pending(*login), lambda: neo4j.migrate(*login)))
    if settings.postgres_uri is not None:
        from coherence_grpc.adapters import postgres

        uri = settings.postgres_uri
        servers.append(("postgres", lambda: postgres.pending(uri), lambda: postgres.migrate(uri)))
    return servers
