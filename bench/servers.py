"""Real servers for a group of figures: its own ones, new and empty, ended with it."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from tests.backends.sharing import own_server
from tests.serving import spoken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.backends.sharing import Own


@asynccontextmanager
async def servers(*parts: str) -> AsyncIterator[Mapping[str, str]]:
    """The environment of a service on these servers, whose schemas are up to date.

    Raises:
        Missing: one's program is not there; the figures were not run, whatever the others are.
        DidNotStart: it did not.
    """
    async with owned(*parts) as own:
        yield environment_of(own)


@asynccontextmanager
async def owned(*parts: str) -> AsyncIterator[Mapping[str, Own]]:
    """As `servers`: the servers themselves, to be killed and started again."""
    # Whoever keeps the servers reads it: Neo4j is to compile as far as it can.
    os.environ["COHERENCE_BACKENDS_FOR"] = "bench"
    own: dict[str, Own] = {}
    async with AsyncExitStack() as stack:
        for part in parts:
            server = own_server(part)
            own[part] = await asyncio.to_thread(server.__enter__)
            stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
        if set(parts) != {"redis"}:
            await _said("migrate", "up", environment=environment_of(own))
        yield own


def environment_of(own: Mapping[str, Own]) -> Mapping[str, str]:
    """What a service on these servers is told."""
    return {name: value for server in own.values() for name, value in server.variables.items()}


async def switched(directory: Path, **switches: str) -> None:
    """Turn the runtime switches of the service over that directory; it reads them within 5 s, or when it starts."""
    for name, value in switches.items():
        await _said("switch", name, value, "--data", str(directory))


async def _said(*command: str, environment: Mapping[str, str] | None = None) -> None:
    said = await spoken(*command, environment=environment)
    if said.exit_code:
        message = f"coherence {' '.join(command)}: {said.stdout}{said.stderr}"
        raise RuntimeError(message)
