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


@asynccontextmanager
async def servers(*parts: str) -> AsyncIterator[Mapping[str, str]]:
    """The environment of a service on these servers, whose schemas are up to date.

    Raises:
        Missing: one's program is not there; the figures were not run, whatever the others are.
        DidNotStart: it did not.
    """
    # Whoever keeps the servers reads it: Neo4j is to compile as far as it can.
    os.environ["COHERENCE_BACKENDS_FOR"] = "bench"
    environment: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for part in parts:
            own = own_server(part)
            server = await asyncio.to_thread(own.__enter__)
            stack.push_async_callback(asyncio.to_thread, own.__exit__, None, None, None)
            environment |= server.variables
        if set(parts) != {"redis"}:
            await _said("migrate", "up", environment=environment)
        yield environment


async def switched(directory: Path, **switches: str) -> None:
    """Turn the runtime switches of the service over that directory; it reads them within 5 s, or when it starts."""
    for name, value in switches.items():
        await _said("switch", name, value, "--data", str(directory))


async def _said(*command: str, environment: Mapping[str, str] | None = None) -> None:
    said = await spoken(*command, environment=environment)
    if said.exit_code:
        message = f"coherence {' '.join(command)}: {said.stdout}{said.stderr}"
        raise RuntimeError(message)
