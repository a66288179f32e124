"""The driver's errors in the domain's words. A message never holds the driver's text: that may quote the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    ConnectionAcquisitionTimeoutError,
    DriverError,
    Neo4jError,
    UnsupportedServerProduct,
)

from coherence_grpc.errors import (
    CoherenceError,
    OutcomeUnknown,
    SettingsInvalid,
    StoreBusy,
    StoreDown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLE: Final = "signal store (Neo4j)"
# What the driver raises when it has no server to talk to: bare errors of the socket and of the event loop too.
FAILURES: Final = (Neo4jError, DriverError, OSError, RuntimeError)
# How uvloop calls a connection that was reset before something was written to it, where asyncio says nothing.
_CLOSED: Final = "the handler is closed"

# By the last word of the server's code, whichever class of codes the driver files it under.
# The last two are another process's migration.
_IN_THE_WAY: Final = frozenset(
    {
        "DeadlockDetected",
        "LockAcquisitionTimeout",
        "Outdated",
        "ConstraintAlreadyExists",
        "EquivalentSchemaRuleAlreadyExists",
    }
)
_TIMED_OUT: Final = frozenset(
    {"LockClientStopped", "Terminated", "TransactionTimedOut", "TransactionTimedOutClientConfiguration"}
)
_OVERLOADED: Final = frozenset(
    {
        "MaximumTransactionLimitReached",
        "MemoryPoolOutOfMemoryError",
        "OutOfMemoryError",
        "StackOverFlowError",
        "TransactionMemoryLimit",
        "TransactionOutOfMemoryError",
    }
)
_READ_ONLY: Final = frozenset({"WriteOnReadOnlyAccessDatabase", "DatabaseReadOnly", "ForbiddenOnReadOnlyDatabase"})
# Its log could not be written, on a full disk above all: it takes nothing more until it is started again.
_BROKEN: Final = "Neo.DatabaseError."
_FORBIDDEN: Final = "Forbidden"
_LOCKED_OUT: Final[Mapping[str, str]] = {
    "AuthenticationRateLimit": "there were too many wrong passwords: correct NEO4J_PASSWORD, then wait some seconds",
    "CredentialsExpired": "its password must be changed first, by ALTER CURRENT USER SET PASSWORD",
}
_DATA: Final = (
    "Neo.ClientError.Statement.",
    "Neo.ClientError.Schema.",
    "Neo.ClientError.Procedure.",
    "Neo.DatabaseError.Schema.",
)
_ROLLED_BACK: Final = ("Neo.ClientError.", "Neo.TransientError.Transaction.")


def word_of(error: Exception) -> str:
    """The last word of the server's code; '' when the server said nothing."""
    code = error.code if isinstance(error, Neo4jError) else None
    return (code or "").rpartition(".")[2]


def refusal_of(error: Exception) -> CoherenceError | None:
    """What a caller is told of the driver's error; None when it is about the data of the query, or a fault of ours."""
    if isinstance(error, RuntimeError) and _CLOSED not in str(error):
        return None
    word = word_of(error)
    if isinstance(error, ConnectionAcquisitionTimeoutError) or word in _IN_THE_WAY | _TIMED_OUT | _OVERLOADED:
        return StoreBusy(f"the {TITLE} was busy for too long; nothing of the call was stored, retry")
    if word in _READ_ONLY:
        return StoreDown(f"the {TITLE} can only be read; nothing was stored, let its user write or name another server")
    if isinstance(error, AuthError) or word == _FORBIDDEN:
        return _turned_away(word)
    code = (error.code or "") if isinstance(error, Neo4jError) else ""
    if code.startswith(_DATA):
        return None
    return _broken() if code.startswith(_BROKEN) else lost()


def _broken() -> StoreDown:
    message = f"the {TITLE} failed and its log says why; see that its disk has room, then start the server again"
    return StoreDown(message)


def _turned_away(word: str) -> StoreDown:
    if word == _FORBIDDEN:
        return StoreDown(f"the user of the {TITLE} lacks a right it needs; let it read and write, then retry")
    return StoreDown(f"the {TITLE} refuses the user or the password; correct NEO4J_USER and NEO4J_PASSWORD")


def refusal_of_connecting(error: Exception) -> CoherenceError:
    """Why the store can't be opened."""
    if isinstance(error, AuthError):
        message = f"the {TITLE} refuses the user or the password; correct NEO4J_USER and NEO4J_PASSWORD"
        return SettingsInvalid(message)
    if word_of(error) in _LOCKED_OUT:
        return SettingsInvalid(f"the {TITLE} lets this user in no more; {_LOCKED_OUT[word_of(error)]}")
    if word_of(error) == "DatabaseNotFound":
        return SettingsInvalid(f"the server of the {TITLE} has no such database; create it, or name another server")
    if isinstance(error, (ConfigurationError, UnsupportedServerProduct)):
        return no_address()
    return lost()


def no_address() -> SettingsInvalid:
    """NEO4J_URI can't be what it says."""
    return SettingsInvalid("NEO4J_URI names no Neo4j server of release 5.23 or newer; write bolt://HOST:PORT")


def passing(error: Exception) -> bool:
    """The server rolled the transaction back for another's sake: the same again may go through."""
    return word_of(error) in _IN_THE_WAY | _TIMED_OUT


def severed(error: Exception) -> bool:
    """No answer of the server: the connection was lost, or there was none."""
    return not isinstance(error, (Neo4jError, ConnectionAcquisitionTimeoutError))


def rolled_back(error: Exception) -> bool:
    """The server says of a COMMIT that nothing of it is kept."""
    return isinstance(error, Neo4jError) and (error.code or "").startswith(_ROLLED_BACK)


def lost() -> StoreDown:
    """The server can't be asked; nothing was stored."""
    return StoreDown(f"the {TITLE} can't be reached; check that it runs and that NEO4J_URI names it")


def late() -> StoreBusy:
    """The server did not answer in time, though it is there; nothing was stored."""
    return StoreBusy(f"the {TITLE} did not answer in time; nothing of the call was stored, retry")


def unsure() -> OutcomeUnknown:
    """The server did not say what became of a COMMIT."""
    message = f"the {TITLE} was lost during the commit; send the same request again to learn what became of it"
    return OutcomeUnknown(message)
