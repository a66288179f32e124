"""What `coherence doctor` asks PostgreSQL: what time it is there, and whether scores can be written."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import psycopg

from coherence_grpc.adapters.postgres.connecting import connected
from coherence_grpc.adapters.postgres.migrating import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.adapters.postgres.connecting import Connection

# The first question makes its way and its plan; the quickest one tells most.
READINGS: Final = 3
_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# No tenant's name holds a colon.
_PROBE: Final = "doctor:"
_WRITE: Final = """
INSERT INTO coherence_scores (tenant_id, status, signal_count, weight_q, window_start, window_end, as_of_seq, head_hash,
    signal_epoch, score_epoch, version, computed_at, source, policy_etag, backfill, status_changed)
VALUES (%(probe)s, 'UNKNOWN', 0, 0, 0, 0, 0, '', 0, 0, 0, 0, '', '', false, false)
ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version
"""


async def read_clock(uri: str, wall: Callable[[], int], *, namespace: str = "public") -> tuple[int, int, int]:
    """When the server was asked and answered, both by `wall`, and between them its own time; in microseconds.

    Raises:
        SettingsInvalid: the server does not let this user in.
        StoreDown, StoreTimeout: it can't be reached, or does not answer.
    """
    async with connected(uri, namespace) as connection:
        readings = [await _read(connection, wall) for _ in range(READINGS)]
    return min(readings, key=lambda reading: reading[1] - reading[0])


async def _read(connection: Connection, wall: Callable[[], int]) -> tuple[int, int, int]:
    asked = wall()
    row = await (await connection.execute(_NOW)).fetchone()
    answered = wall()
    assert row is not None, "it has no FROM"  # noqa: S101 - for the type checker
    return asked, answered, int(row[0])


async def check_writes(uri: str, *, namespace: str = "public") -> None:
    """Returns when the user has every right of a running service; a score that it writes is rolled back.

    Raises:
        MigrationPending: the schema is behind.
        SettingsInvalid, StoreDown, StoreTimeout: the message names the right that lacks, or says what else is wrong.
    """
    async with connected(uri, namespace) as connection:
        await check(connection, namespace)
        async with connection.transaction():
            await connection.execute(_WRITE, {"probe": _PROBE + secrets.token_hex(8)})
            raise psycopg.Rollback
