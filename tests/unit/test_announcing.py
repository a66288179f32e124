"""What other processes are told: a ring for each commit, and rows for the cache."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.app.announcing import Announcer
from coherence_grpc.model import Appended, Head
from coherence_grpc.ports import News
from tests.builders import NOON, TENANT, a_score, a_write, an_item
from tests.faults import until
from tests.unit.sharing import Bell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.model import Score

pytestmark = pytest.mark.anyio


class SlowCache:
    """Puts a batch when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[Score]] = []
        self.gate = asyncio.Event()

    async def get(self, tenant_ids: Sequence[str]) -> Mapping[str, Score]:
        raise AssertionError(tenant_ids)

    async def put(self, scores: Sequence[Score]) -> None:
        self.batches.append(list(scores))
        await self.gate.wait()


async def test_a_commit_is_rung_with_its_entries() -> None:
    bell, heard = Bell(), list[News]()
    bell.listen(heard.append)
    items = [an_item(), an_item()]
    appended = Appended(a_write(*items), [], 5, items, [b"\x01" * 32] * 2, NOON, Head(1, 6, b"\x01" * 32))

    async with Announcer(bell, SlowCache(), cached=lambda: False) as announcer:
        announcer.appended(appended)

    assert heard == [News(TENANT, 5, 6)]


async def test_an_entry_of_the_servers_own_is_rung_with_its_number() -> None:
    bell, heard = Bell(), list[News]()
    bell.listen(heard.append)

    async with Announcer(bell, SlowCache(), cached=lambda: False) as announcer:
        announcer.moved(TENANT, 7)

    assert heard == [News(TENANT, 7, 7)]


async def test_a_publication_is_rung_with_its_version() -> None:
    bell, heard = Bell(), list[News]()
    bell.listen(heard.append)

    async with Announcer(bell, SlowCache(), cached=lambda: False) as announcer:
        announcer.published(a_score(version=4))

    assert heard == [News(TENANT, 0, 0, version=4)]


async def test_rows_published_while_others_are_cached_go_together_the_newest_of_each_tenant() -> None:
    cache = SlowCache()
    async with Announcer(Bell(), cache, cached=lambda: True) as announcer:
        announcer.published(a_score(version=1))
        await until(lambda: len(cache.batches) == 1)
        announcer.published(a_score(version=2))
        announcer.published(a_score(version=3))
        announcer.published(a_score(tenant_id="other"))
        cache.gate.set()

        await until(lambda: len(cache.batches) == 2)

    assert [[(row.tenant_id, row.version) for row in batch] for batch in cache.batches] == [
        [(TENANT, 1)],
        [(TENANT, 3), ("other", 1)],
    ]


async def test_with_the_cache_off_no_row_is_kept() -> None:
    cache = SlowCache()
    async with Announcer(Bell(), cache, cached=lambda: False) as announcer:
        announcer.published(a_score())

    assert not cache.batches


async def test_a_cache_that_never_answers_does_not_hold_up_the_end() -> None:
    cache = SlowCache()
    async with asyncio.timeout(5), Announcer(Bell(), cache, cached=lambda: True) as announcer:
        announcer.published(a_score())
        await until(lambda: len(cache.batches) == 1)

    assert not cache.gate.is_set()
