"""What callers are told of what the Neo4j driver raises."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop
from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    ConnectionAcquisitionTimeoutError,
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from coherence_grpc.adapters.neo4j.failures import (
    FAILURES,
    passing,
    refusal_of,
    refusal_of_connecting,
    rolled_back,
    severed,
)
from coherence_grpc.errors import CoherenceError, SettingsInvalid, StoreBusy, StoreDown

SECRET = "don't tell"  # noqa: S105 - of nobody


def from_server(code: str) -> Neo4jError:
    """As the driver makes it of what the server says."""
    return Neo4jError._hydrate_neo4j(code=code, message=SECRET)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServiceUnavailable(SECRET), StoreDown),
        (SessionExpired(SECRET), StoreDown),
        (ConnectionResetError(SECRET), StoreDown),
        (ConnectionAcquisitionTimeoutError(SECRET), StoreBusy),
        (from_server("Neo.TransientError.Transaction.DeadlockDetected"), StoreBusy),
        (from_server("Neo.TransientError.Transaction.LockClientStopped"), StoreBusy),
        (from_server("Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration"), StoreBusy),
        (from_server("Neo.TransientError.General.MemoryPoolOutOfMemoryError"), StoreBusy),
        (from_server("Neo.TransientError.Database.DatabaseUnavailable"), StoreDown),
        (from_server("Neo.DatabaseError.General.UnknownError"), StoreDown),
        (from_server("Neo.ClientError.Security.Unauthorized"), StoreDown),
        (from_server("Neo.ClientError.General.WriteOnReadOnlyAccessDatabase"), StoreDown),
    ],
    ids=lambda value: getattr(value, "code", None) or getattr(value, "__name__", type(value).__name__),
)
def test_each_failure_is_one_a_caller_can_act_on(error: Exception, kind: type[CoherenceError]) -> None:
    refusal = refusal_of(error)

    assert type(refusal) is kind
    assert SECRET not in str(refusal)


@pytest.mark.parametrize(
    "code",
    [
        "Neo.ClientError.Schema.ConstraintValidationFailed",
        "Neo.ClientError.Statement.TypeError",
        "Neo.ClientError.Statement.ArgumentError",
    ],
)
def test_what_is_about_the_data_is_nobodys_refusal(code: str) -> None:
    assert refusal_of(from_server(code)) is None


@pytest.mark.parametrize(
    "error",
    [
        AuthError(SECRET),
        ConfigurationError(SECRET),
        from_server("Neo.ClientError.Security.Unauthorized"),
        from_server("Neo.ClientError.Database.DatabaseNotFound"),
    ],
    ids=["auth", "configuration", "unauthorized", "database"],
)
def test_what_settings_cause_is_said_as_such_at_the_start(error: Exception) -> None:
    refusal = refusal_of_connecting(error)

    assert isinstance(refusal, SettingsInvalid)
    assert SECRET not in refusal.message


def test_a_server_that_failed_is_said_to_need_a_start_and_room() -> None:
    refusal = refusal_of(from_server("Neo.DatabaseError.Transaction.TransactionStartFailed"))

    assert type(refusal) is StoreDown
    assert "disk has room" in refusal.message


def test_only_what_was_rolled_back_for_anothers_sake_is_tried_again() -> None:
    codes = {
        code: passing(from_server(code))
        for code in (
            "Neo.TransientError.Transaction.DeadlockDetected",
            "Neo.ClientError.Transaction.TransactionTimedOut",
            "Neo.TransientError.Database.DatabaseUnavailable",
            "Neo.ClientError.Schema.ConstraintValidationFailed",
        )
    }

    assert list(codes.values()) == [True, True, False, False]
    assert not passing(ServiceUnavailable())


@pytest.mark.parametrize(
    ("error", "sure"),
    [
        (from_server("Neo.TransientError.Transaction.DeadlockDetected"), True),
        (from_server("Neo.ClientError.Transaction.TransactionTimedOut"), True),
        (from_server("Neo.ClientError.Schema.ConstraintValidationFailed"), True),
        (from_server("Neo.DatabaseError.Transaction.TransactionCommitFailed"), False),
        (from_server("Neo.TransientError.Database.DatabaseUnavailable"), False),
        (IncompleteCommit(), False),
        (ServiceUnavailable(), False),
        (ConnectionResetError(), False),
    ],
    ids=lambda value: getattr(value, "code", None) or str(value) or type(value).__name__,
)
def test_of_a_commit_only_the_server_can_say_that_it_was_rolled_back(error: Exception, sure: bool) -> None:
    assert rolled_back(error) is sure


def test_a_server_that_answered_is_not_severed() -> None:
    assert severed(ServiceUnavailable())
    assert severed(BrokenPipeError())
    assert not severed(from_server("Neo.TransientError.Transaction.DeadlockDetected"))
    assert not severed(ConnectionAcquisitionTimeoutError())


def test_r11_a_connection_reset_before_it_is_written_to_is_a_server_that_is_away() -> None:
    with pytest.raises(FAILURES) as written:
        uvloop.run(_write_to_a_closed_connection())

    assert isinstance(written.value, RuntimeError)
    assert isinstance(refusal_of(written.value), StoreDown)


def test_another_fault_of_the_program_is_not_put_down_to_the_server() -> None:
    assert refusal_of(RuntimeError("dictionary changed size during iteration")) is None


async def _write_to_a_closed_connection() -> None:
    near, far = socket.socketpair()
    with far:
        _, writer = await asyncio.open_connection(sock=near)
        writer.transport.abort()
        # The loop closes it in its next round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writer.write(b"a request")
