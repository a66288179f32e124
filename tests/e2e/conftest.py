from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.client import Client, connect
from tests.builders import fresh
from tests.e2e.ways import Way, all_ways, browser
from tests.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import httpx


@pytest.fixture(scope="session")
async def service(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The service that tests share which need nothing of their own but a tenant."""
    async with serving(tmp_path_factory.mktemp("shared") / "data", drain=True) as served:
        yield served


@pytest.fixture
async def client(service: Served) -> AsyncIterator[Client]:
    """The shared service's backbone."""
    async with connect(service.grpc) as connected:
        yield connected


@pytest.fixture
async def http(service: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the shared service."""
    async with browser(service) as client:
        yield client


@pytest.fixture
async def ways(service: Served) -> AsyncIterator[Sequence[Way]]:
    """Every way into the shared service."""
    async with all_ways(service) as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own."""
    return fresh("tenant")
