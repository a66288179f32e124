"""The driver's errors in the domain's words. A message never holds the driver's text: that may quote the address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import (
    CoherenceError,
    MigrationPending,
    OutcomeUnknown,
    SettingsInvalid,
    StorageFull,
    StoreBusy,
    StoreDown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

TITLE: Final = "score store (PostgreSQL)"
# Its statement, lock or transaction took longer than the server was told to allow, or met another one.
_BUSY: Final = (StoreBusy, f"the {TITLE} was busy for too long; nothing of the call was stored, retry")
_OTHER_SCHEMA: Final = (
    MigrationPending,
    f"the {TITLE} lacks a table or a column of this release; run `coherence migrate up`",
)
_ENDED: Final = (StoreDown, f"the {TITLE} ended the call, and nothing of it was stored; retry")
# By the code, or by the two characters of its class: what says that the statement was not committed.
_MEANING: Final[Mapping[str, tuple[type[CoherenceError], str]]] = {
    "53100": (StorageFull, f"the {TITLE} has no room left and nothing of the call was stored; free some, then retry"),
    "42501": (StoreDown, f"the user of the {TITLE} lacks a right it needs; apply roles.sql, then retry"),
    "25006": (StoreDown, f"the {TITLE} can only be read; name the primary server in POSTGRES_URI"),
    "57014": _BUSY,
    "55P03": _BUSY,
    "40P01": _BUSY,
    "40001": _BUSY,
    "3F000": _OTHER_SCHEMA,
    "42P01": _OTHER_SCHEMA,
    "42703": _OTHER_SCHEMA,
    "08": _ENDED,
    "25": _ENDED,
    "28": _ENDED,
    "53": _ENDED,
    "57": _ENDED,
    "58": _ENDED,
    "F0": _ENDED,
    "XX": _ENDED,
}
_CLASS: Final = 2

# What libpq says of a connection that did not come about has no code. Words of a server that speaks another language
# than English end in the general answer.
_UNANSWERED: Final = "no password supplied"
_FATAL: Final = "FATAL:"
_CONNECTING: Final = (
    ("no pg_hba.conf entry", "the server lets no connection of this user in from here; allow it in pg_hba.conf"),
    ("permission denied for database", "the user may not connect to the database; grant it CONNECT"),
    ("password authentication failed", "the server refuses the user or the password; correct both in POSTGRES_URI"),
    ('role "', "the server has no such user, or it may not log in; correct the user in POSTGRES_URI"),
    ('database "', "the server has no such database; create it, or correct its name in POSTGRES_URI"),
)


def refusal_of(error: psycopg.Error, *, sent: bool) -> CoherenceError | None:
    """What a caller is told of the driver's error; None when the error is about the data of the statement.

    `sent`: what the server did not answer may have been committed.
    """
    state = error.sqlstate
    if state is None:
        return lost(sent=sent)
    meaning = _MEANING.get(state) or _MEANING.get(state[:_CLASS])
    return None if meaning is None else meaning[0](meaning[1])


def lost(*, sent: bool) -> StoreDown:
    """The connection ended without an answer."""
    if sent:
        message = f"the {TITLE} was lost before it answered; what was sent may be stored, send it again"
        return OutcomeUnknown(message)
    return StoreDown(f"the {TITLE} can't be reached; check that it runs and that POSTGRES_URI names it")


def late(*, sent: bool) -> CoherenceError:
    """The server did not answer in time, though it is there."""
    if sent:
        message = f"the {TITLE} did not answer in time; what was sent may be stored, send it again"
        return OutcomeUnknown(message)
    return StoreBusy(f"the {TITLE} did not answer in time; retry")


def refusal_of_connecting(error: psycopg.Error) -> CoherenceError:
    """Why no connection came about."""
    if _UNANSWERED in str(error):
        return SettingsInvalid(f"{TITLE}: the server asks for a password; name one in POSTGRES_URI")
    said = str(error).partition(_FATAL)[2].strip()
    for words, meaning in _CONNECTING:
        if said.startswith(words):
            return SettingsInvalid(f"{TITLE}: {meaning}")
    return lost(sent=False)
