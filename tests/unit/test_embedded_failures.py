"""The driver's errors in the domain's words."""

from __future__ import annotations

import errno

import apsw
import pytest

from coherence_grpc.adapters.embedded.failures import refusal_of, refusal_of_commit
from coherence_grpc.errors import CoherenceError, OutcomeUnknown, StorageFull, StoreDown, StoreTimeout


def sqlite_error(code: int) -> apsw.Error:
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)
    return error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (apsw.SQLITE_FULL, StorageFull),
        (apsw.SQLITE_IOERR_SHMSIZE, StorageFull),
        (apsw.SQLITE_BUSY, StoreTimeout),
        (apsw.SQLITE_BUSY_SNAPSHOT, StoreTimeout),
        (apsw.SQLITE_LOCKED, StoreTimeout),
        (apsw.SQLITE_IOERR_READ, StoreDown),
        (apsw.SQLITE_IOERR_WRITE, StoreDown),
        (apsw.SQLITE_CORRUPT, StoreDown),
        (apsw.SQLITE_NOTADB, StoreDown),
        (apsw.SQLITE_CANTOPEN, StoreDown),
        (apsw.SQLITE_READONLY, StoreDown),
        (apsw.SQLITE_NOMEM, StoreDown),
        (apsw.SQLITE_INTERRUPT, StoreDown),
    ],
)
def test_an_error_of_the_store_is_told_in_the_domains_words(code: int, expected: type[CoherenceError]) -> None:
    refusal = refusal_of(sqlite_error(code), "signal store")

    assert type(refusal) is expected
    assert "signal store" in refusal.message


@pytest.mark.parametrize("code", [apsw.SQLITE_CONSTRAINT, apsw.SQLITE_TOOBIG, apsw.SQLITE_MISMATCH, apsw.SQLITE_ERROR])
def test_an_error_of_the_data_is_left_as_it_is(code: int) -> None:
    assert refusal_of(sqlite_error(code), "signal store") is None
    assert refusal_of_commit(sqlite_error(code), "signal store") is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_that_failed_for_want_of_room_is_a_full_store(number: int) -> None:
    assert isinstance(refusal_of(sqlite_error(apsw.SQLITE_IOERR_WRITE), "signal store", number), StorageFull)


def test_a_commit_that_may_have_reached_the_disk_has_an_unknown_outcome() -> None:
    error = sqlite_error(apsw.SQLITE_IOERR_FSYNC)

    assert isinstance(refusal_of_commit(error, "signal store"), OutcomeUnknown)
    assert type(refusal_of(error, "signal store")) is StoreDown


@pytest.mark.parametrize("code", [apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_BUSY])
def test_a_commit_that_was_not_written_stored_nothing(code: int) -> None:
    assert not isinstance(refusal_of_commit(sqlite_error(code), "signal store"), OutcomeUnknown)
