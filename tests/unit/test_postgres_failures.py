"""What a caller is told of PostgreSQL's errors."""

from __future__ import annotations

import psycopg
import pytest

from coherence_grpc.adapters.postgres.failures import refusal_of, refusal_of_connecting
from coherence_grpc.errors import (
    CoherenceError,
    MigrationPending,
    OutcomeUnknown,
    SettingsInvalid,
    StorageFull,
    StoreBusy,
    StoreDown,
)

SECRET = "postgresql://a:don't tell@db/x"  # noqa: S105 - of nobody


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.DiskFull, StorageFull),
        (psycopg.errors.QueryCanceled, StoreBusy),
        (psycopg.errors.LockNotAvailable, StoreBusy),
        (psycopg.errors.DeadlockDetected, StoreBusy),
        (psycopg.errors.SerializationFailure, StoreBusy),
        (psycopg.errors.UndefinedTable, MigrationPending),
        (psycopg.errors.UndefinedColumn, MigrationPending),
        (psycopg.errors.InsufficientPrivilege, StoreDown),
        (psycopg.errors.ReadOnlySqlTransaction, StoreDown),
        (psycopg.errors.AdminShutdown, StoreDown),
        (psycopg.errors.CannotConnectNow, StoreDown),
        (psycopg.errors.TooManyConnections, StoreDown),
        (psycopg.errors.IdleInTransactionSessionTimeout, StoreDown),
        (psycopg.errors.DataCorrupted, StoreDown),
    ],
)
@pytest.mark.parametrize("sent", [False, True])
def test_what_the_server_answers_was_not_stored(
    error: type[psycopg.Error], kind: type[CoherenceError], sent: bool
) -> None:
    refused = refusal_of(error(SECRET), sent=sent)

    assert type(refused) is kind
    assert SECRET not in refused.message


@pytest.mark.parametrize(("sent", "kind"), [(False, StoreDown), (True, OutcomeUnknown)])
def test_what_was_sent_before_the_server_was_lost_may_be_stored(sent: bool, kind: type[CoherenceError]) -> None:
    assert type(refusal_of(psycopg.OperationalError(SECRET), sent=sent)) is kind


def test_an_error_about_the_data_is_ours() -> None:
    assert refusal_of(psycopg.errors.CheckViolation(SECRET), sent=True) is None


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('FATAL:  password authentication failed for user "a"', SettingsInvalid),
        ('FATAL:  role "a" does not exist', SettingsInvalid),
        ('FATAL:  database "x" does not exist', SettingsInvalid),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "a", database "x"', SettingsInvalid),
        ('FATAL:  permission denied for database "x"', SettingsInvalid),
        ("fe_sendauth: no password supplied", SettingsInvalid),
        ("FATAL:  the database system is starting up", StoreDown),
        ("FATAL:  sorry, too many clients already", StoreDown),
        ("Connection refused", StoreDown),
    ],
)
def test_why_no_connection_came_about_is_told_as_far_as_it_is_known(said: str, kind: type[CoherenceError]) -> None:
    error = psycopg.OperationalError(f"connection failed: connection to server at {SECRET!r} failed: {said}")

    refused = refusal_of_connecting(error)

    assert type(refused) is kind
    assert SECRET not in refused.message
