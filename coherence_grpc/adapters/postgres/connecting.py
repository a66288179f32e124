"""How a connection is made: where to, in which schema, and after how long everything ends."""

from __future__ import annotations

import asyncio
import re
import select
import socket
from contextlib import asynccontextmanager, suppress
from os import dup
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from coherence_grpc.adapters.postgres.failures import late, lost, refusal_of, refusal_of_connecting
from coherence_grpc.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from coherence_grpc.errors import CoherenceError

Connection: TypeAlias = "psycopg.AsyncConnection[tuple[Any, ...]]"

CONNECT_S: Final = 2.0
OPERATION_S: Final = 5.0
# The server gives up before the client does, so that the client learns what became of the call.
STATEMENT_S: Final = 4.0
# A client that stops inside a transaction holds others up for so long.
IDLE_IN_TRANSACTION_S: Final = 2.0
# After the socket was cut the driver returns at once; this is for a driver that doesn't.
_GRACE_S: Final = 1.0
_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SOCKET: Final[Mapping[str, int | str]] = {
    "connect_timeout": int(CONNECT_S),
    "tcp_user_timeout": 3000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "application_name": "coherence",
}


def conninfo(uri: str, namespace: str, *, statement_s: float = STATEMENT_S) -> str:
    """What the driver connects with; the address's own parameters of the socket stand.

    Raises:
        SettingsInvalid: it is no address, or the schema's name would have to be quoted.
    """
    if not _NAMESPACE.fullmatch(namespace):
        message = f"{namespace!r} can't be the schema of the scores; use a-z, 0-9 and _, beginning with a letter"
        raise SettingsInvalid(message)
    try:
        given = conninfo_to_dict(uri)
    except psycopg.Error:
        message = "POSTGRES_URI is not an address; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        # The driver quotes the address, and with it a password.
        raise SettingsInvalid(message) from None
    limits = {
        "search_path": namespace,
        "statement_timeout": round(statement_s * 1000),
        "lock_timeout": round(statement_s * 1000),
        "idle_in_transaction_session_timeout": round(IDLE_IN_TRANSACTION_S * 1000),
    }
    options = [str(given.pop("options", "")), *(f"-c {name}={value}" for name, value in limits.items())]
    return make_conninfo("", **{**_SOCKET, **given}, options=" ".join(options))


@asynccontextmanager
async def connected(uri: str, namespace: str, *, limit_s: float = OPERATION_S) -> AsyncIterator[Connection]:
    """One connection for one errand of at most `limit_s`; each statement commits unless it stands in a transaction.

    Raises:
        SettingsInvalid: the server does not let this user in.
        StoreDown, StoreTimeout: it can't be reached, or does not answer.
    """
    address = conninfo(uri, namespace, statement_s=limit_s)
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
    except psycopg.Error as error:
        raise refusal_of_connecting(error) from None
    except TimeoutError:
        raise late(sent=False) from None
    async with connection, answering(connection, asyncio.get_running_loop().time() + limit_s, sent=False):
        yield connection


@asynccontextmanager
async def answering(connection: Connection, deadline: float, *, sent: bool) -> AsyncIterator[Callable[[], None]]:
    """Around statements: the driver's errors leave as the domain's, and the wait for an answer ends at the deadline.

    What is yielded ends it at once, as one that says nothing.

    A cancelled driver asks the server to stop and waits for the answer, of which a server that is stuck gives none. So
    the socket is cut, which ends every wait at once; the connection is broken then. `sent`: see `refusal_of`.
    """
    cut: Callable[..., CoherenceError] | None = None

    def cut_off(why: Callable[..., CoherenceError]) -> None:
        nonlocal cut
        cut = why
        _shut_down(connection)

    timer = asyncio.get_running_loop().call_at(deadline, cut_off, late)
    try:
        async with asyncio.timeout_at(deadline + _GRACE_S):
            yield lambda: cut_off(lost)
    except TimeoutError as error:
        raise late(sent=sent) from error
    except psycopg.Error as error:
        refusal = cut(sent=sent) if cut else refusal_of(error, sent=sent)
        if refusal is None:
            raise
        raise refusal from error
    finally:
        timer.cancel()


def alive(connection: Connection) -> bool:
    """Nothing came from the server while nobody asked it: not its farewell, nor the end of the connection."""
    if connection.closed:
        return False
    heard = select.poll()
    heard.register(connection.fileno(), select.POLLIN)
    return not heard.poll(0)


def _shut_down(connection: Connection) -> None:
    # The peer may have been faster.
    with suppress(psycopg.Error, OSError), socket.socket(fileno=dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
