"""The driver's errors in the domain's words."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import apsw

from coherence_grpc.errors import OutcomeUnknown, StorageFull, StoreDown, StoreTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coherence_grpc.errors import CoherenceError

_UNREACHABLE: Final = (
    apsw.IOError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.NoMemError,
    apsw.ProtocolError,
    apsw.InterruptError,
    apsw.ConnectionClosedError,
    apsw.CursorClosedError,
)
# The index of the write-ahead log lies in a file of its own, which has to grow too.
_NO_ROOM: Final = frozenset({apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMMAP})
_UNSURE: Final = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})


def refusal_of(error: apsw.Error, title: str, system_errno: int = 0) -> CoherenceError | None:
    """What a caller is told of the driver's error; None when the error is about the data of the statement.

    `system_errno` is what the operating system said to the connection last.
    """
    if _is_full(error, system_errno):
        message = f"the {title} has no room left and nothing of the call was stored; free some or prune, then retry"
        return StorageFull(message)
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreTimeout(f"the {title} was busy for too long; nothing of the call was stored, retry")
    if isinstance(error, _UNREACHABLE):
        return StoreDown(f"the {title} can't be read or written; the server's log says why")
    return None


def refusal_of_commit(error: apsw.Error, title: str, system_errno: int = 0) -> CoherenceError | None:
    """The same for a failed COMMIT, whose last write may have reached the disk."""
    if isinstance(error, apsw.IOError) and _extended(error) in _UNSURE:
        message = f"the {title} was lost during the commit; send the same request again to learn what became of it"
        return OutcomeUnknown(message)
    return refusal_of(error, title, system_errno)


@contextmanager
def translated(title: str, connection: apsw.Connection) -> Iterator[None]:
    """The driver's errors leave the block as the domain's; what is about the data leaves it as it is."""
    try:
        yield
    except apsw.Error as error:
        refusal = refusal_of(error, title, connection.system_errno)
        if refusal is None:
            raise
        raise refusal from error


def _is_full(error: apsw.Error, system_errno: int) -> bool:
    if isinstance(error, apsw.FullError):
        return True
    if not isinstance(error, apsw.IOError):
        return False
    return _extended(error) in _NO_ROOM or system_errno in {errno.ENOSPC, errno.EDQUOT}


def _extended(error: apsw.Error) -> int:
    # The driver sets it on every error that SQLite gave, and its types don't say so.
    code: int = getattr(error, "extendedresult", 0)
    return code
