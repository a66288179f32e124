from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders import fresh
from tests.subgraph.running import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session")
async def subgraph(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The subgraph that tests share which need nothing of their own but a tenant."""
    async with running(tmp_path_factory.mktemp("subgraph")) as found:
        yield found


@pytest.fixture(scope="session")
async def open_subgraph(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The same with the free_text switch on, in the dev profile."""
    async with running(tmp_path_factory.mktemp("open"), free_text=True) as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own."""
    return fresh("tenant")
