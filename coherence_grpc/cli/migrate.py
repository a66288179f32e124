"""`coherence migrate`: the schema of the servers that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coherence_grpc.cli.failure import REFUSED, UNREACHABLE, Failure
from coherence_grpc.cli.output import Grid, plain, say_json, screen
from coherence_grpc.cli.serve import settings_of
from coherence_grpc.cli.session import asynchronous, json_option

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coherence_grpc.app.migrations import Migrated
    from coherence_grpc.config import Settings

NOTHING = (
    "no server is configured (NEO4J_URI, POSTGRES_URI); a data directory's files are migrated when they are opened"
)


@click.group()
def migrate() -> None:
    """Bring the schemas of Neo4j and PostgreSQL up to date; migrations only add, and several may run at once."""


@migrate.command()
@json_option
@asynchronous
async def up(as_json: bool) -> None:
    """Apply what is due."""
    from coherence_grpc.app.migrations import migrate as apply

    _show(await _asked(apply), "applied", "up to date", as_json=as_json)


@migrate.command()
@json_option
@asynchronous
async def status(as_json: bool) -> None:
    """Show what is due."""
    from coherence_grpc.app.migrations import pending

    _show(await _asked(pending), "due", "up to date", as_json=as_json)


@migrate.command()
@json_option
@asynchronous
async def check(as_json: bool) -> int:
    """Fail when something is due."""
    from coherence_grpc.app.migrations import pending

    found = await _asked(pending)
    _show(found, "due", "up to date", as_json=as_json)
    return REFUSED if any(migrated.migrations for migrated in found) else 0


async def _asked(ask: Callable[[Settings], Awaitable[Sequence[Migrated]]]) -> Sequence[Migrated]:
    from coherence_grpc.errors import CoherenceError, StoreDown, StoreTimeout

    try:
        return await ask(settings_of({}))
    except (StoreDown, StoreTimeout) as away:
        raise Failure(away.message, "see `coherence doctor`", exit_code=UNREACHABLE) from None
    except CoherenceError as refused:
        raise Failure(refused.message, exit_code=REFUSED) from None


def _show(found: Sequence[Migrated], word: str, nothing: str, *, as_json: bool) -> None:
    if as_json:
        for migrated in found:
            say_json({"store": migrated.store, word: list(migrated.migrations)})
        return
    if not found:
        screen().print(plain(NOTHING), soft_wrap=True)
        return
    grid = Grid("store", word, whole=("store",))
    for migrated in found:
        grid.add(migrated.store, plain(", ".join(migrated.migrations) or nothing))
    screen().print(grid)
