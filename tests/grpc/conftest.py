from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.app import listening
from tests.builders import fresh
from tests.grpc.running import World, world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _short_notice() -> Iterator[None]:
    """Clients that are still connected when a test is over are not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "NOTICE_S", 0.1)
        yield


@pytest.fixture
async def served(anyio_backend: str, tmp_path: Path) -> AsyncIterator[World]:
    """A backbone of the test's own."""
    async with world(tmp_path / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
async def shared(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A backbone for tests that need nothing of their own but a tenant."""
    async with world(tmp_path_factory.mktemp("shared") / "data") as opened:
        yield opened


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own."""
    return fresh("tenant")
