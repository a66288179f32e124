"""The way to Redis: a few connections, a limit on every wait, and a breaker for when it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from coherence_grpc.breaker import Breaker, Bulkhead
from coherence_grpc.errors import CoherenceError, SettingsInvalid, StoreDown, StoreTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from redis.typing import EncodableT

CONNECTIONS: Final = 16
# What waits for a connection does not wait for long anyway.
QUEUE: Final = 10_000
# Rarely asked, it is to be known as lost all the same.
FAILED_CALLS: Final = 3
NAME: Final = "Redis"

# One command and its arguments; the answer is as the driver has it.
Ask: TypeAlias = Callable[..., Awaitable[Any]]

_log = logging.getLogger(__name__)

_WRONG: Final[Sequence[tuple[type[exceptions.RedisError], str]]] = (
    (exceptions.AuthenticationError, "refuses user or password; check REDIS_URL"),
    (exceptions.AuthorizationError, "refuses user or password; check REDIS_URL"),
    (exceptions.NoPermissionError, "does not let this user do what is needed; see its ACL"),
    (exceptions.ReadOnlyError, "is read-only, a replica for example; name the primary in REDIS_URL"),
    (exceptions.OutOfMemoryError, "has no memory left; raise its maxmemory or let it evict"),
    (exceptions.BusyLoadingError, "is still loading its data; wait, or retry"),
    (exceptions.ConnectionError, "can't be reached; check that it runs, and the address in REDIS_URL"),
)


class Script:
    """A Lua script and the name by which Redis knows it once it has seen it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


class Counts(NamedTuple):
    """What a role did so far.

    Cache and marks count keys found and not found; the limiter counts requests admitted and refused; the doorbell
    counts news told to others, news let go, and news `heard` from others. `errors` counts the calls that Redis did not
    answer.
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    heard: int = 0


@dataclass(slots=True)
class Tally:
    """Counts in the making."""

    hits: int = 0
    misses: int = 0
    errors: int = 0
    heard: int = 0

    def counts(self) -> Counts:
        """As they are now."""
        return Counts(self.hits, self.misses, self.errors, self.heard)


class Link:
    """One Redis, for all roles of a process."""

    def __init__(self, url: str, call_s: float) -> None:
        self._pool = _pool(url, call_s)
        self.call_s = call_s
        self._bulkhead = Bulkhead(NAME, CONNECTIONS, queue=QUEUE)
        self.client = Redis(connection_pool=self._pool)
        self._ask: Ask = self.client.execute_command
        self.breaker = Breaker(NAME, minimum=FAILED_CALLS)

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Ask]:
        """Around the commands of one call, which may take `call_s` together.

        Raises:
            StoreDown, StoreTimeout, Concurrency: whatever kept Redis from answering.
        """
        until = asyncio.get_running_loop().time() + self.call_s
        async with self._bulkhead.place(timeout_s=self.call_s):
            with self.breaker.call(), answering():
                async with asyncio.timeout_at(until):
                    yield self._ask

    async def close(self) -> None:
        """Lets go of the connections, within `call_s`."""
        with suppress(exceptions.RedisError, OSError):
            async with asyncio.timeout(self.call_s):
                await self._pool.disconnect()


async def run(ask: Ask, script: Script, keys: Sequence[EncodableT], arguments: Sequence[EncodableT]) -> Any:  # noqa: ANN401 - what the script returns
    """What the script returns, also when Redis has forgotten it."""
    try:
        return await ask("EVALSHA", script.digest, len(keys), *keys, *arguments)
    except exceptions.NoScriptError:
        return await ask("EVAL", script.source, len(keys), *keys, *arguments)


@contextmanager
def answering() -> Iterator[None]:
    """Turns what the driver raises into StoreDown or StoreTimeout that say what to do."""
    try:
        yield
    except (TimeoutError, exceptions.TimeoutError) as error:
        message = f"{NAME} did not answer in time; check its load and the network"
        raise StoreTimeout(message) from error
    except exceptions.RedisError as error:
        wrong = next((text for kind, text in _WRONG if isinstance(error, kind)), "can't do what was asked; see its log")
        message = f"{NAME} {wrong}"
        raise StoreDown(message) from error
    except OSError as error:
        message = f"{NAME} can't be reached; check that it runs, and the address in REDIS_URL"
        raise StoreDown(message) from error
    except CoherenceError:
        raise
    except Exception as error:
        _log.exception("the driver of Redis failed")
        message = f"{NAME} was not asked: its driver failed; the log says how"
        raise StoreDown(message) from error


def _pool(url: str, connect_s: float) -> ConnectionPool:
    """Connections as the URL says, but for what our promises rest on.

    A client of the driver retries and waits for long by default: 12 s and more against a black hole.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
        options |= {
            # With one, the driver waits by asyncio.wait_for, which forgets to cancel now and then before Python 3.12.
            "socket_timeout": None,
            "socket_connect_timeout": connect_s,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "retry_on_error": [],
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,
            # One more listens for doorbells.
            "max_connections": CONNECTIONS + 1,
        }
        pool = ConnectionPool(**options)
        # Options of the URL that don't exist come to light here.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError):
        message = "REDIS_URL is not an address of Redis; it reads redis://:password@host:6379/0"
        raise SettingsInvalid(message) from None  # the driver's text may hold the password
    return pool
