"""DedupeMarks, sentence by sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coherence_grpc.adapters.local import NoMarks
from coherence_grpc.adapters.redis import Counts
from tests.backends.fixtures import fresh_prefix
from tests.builders import an_item, key_of, payload_of
from tests.conformance.sharing_redis import a_process, asking, keys_of
from tests.faults import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coherence_grpc.adapters.redis import RedisParts
    from coherence_grpc.model import Item, Key
    from coherence_grpc.ports import DedupeMarks

pytestmark = pytest.mark.anyio


@pytest.fixture
def prefix() -> str:
    return fresh_prefix()


@pytest.fixture
async def parts(redis_url: str, prefix: str) -> AsyncIterator[RedisParts]:
    async with a_process(redis_url, prefix) as parts:
        yield parts


@pytest.fixture
def marks(parts: RedisParts) -> DedupeMarks:
    return parts.marks


def words(*items: Item, tenant_id: str = "acme") -> tuple[Sequence[Key], Sequence[bytes]]:
    return [key_of(item, tenant_id) for item in items], [payload_of(item) for item in items]


async def test_what_was_marked_is_known_with_its_entry(marks: DedupeMarks, parts: RedisParts) -> None:
    first, second, unmarked = an_item(), an_item(), an_item()
    await marks.mark(1, *words(first, second), [7, 2**53 + 1])

    assert await marks.known(1, *words(second, unmarked, first)) == [2**53 + 1, 0, 7]
    assert parts.counts()["marks"] == Counts(2, 1, 0)


async def test_every_process_knows_it(marks: DedupeMarks, redis_url: str, prefix: str) -> None:
    item = an_item()
    await marks.mark(1, *words(item), [7])

    async with a_process(redis_url, prefix) as other:
        assert await other.marks.known(1, *words(item)) == [7]


async def test_another_payload_is_not_known(marks: DedupeMarks) -> None:
    item = an_item(value=0.2)
    await marks.mark(1, *words(item), [7])

    assert await marks.known(1, *words(item._replace(value_q=item.value_q + 1))) == [0]


@pytest.mark.parametrize("other", [{"tenant_id": "acm"}, {"source": "c"}, {"signal_id": "x"}, {"ts": 5}])
async def test_another_key_is_not_known(marks: DedupeMarks, other: dict[str, Any]) -> None:
    key = key_of(an_item(signal_id="s", ts=4))
    payload = b"the same"
    await marks.mark(1, [key], [payload], [7])

    assert await marks.known(1, [key._replace(**other)], [payload]) == [0]


async def test_keys_whose_parts_run_together_alike_are_not_one(marks: DedupeMarks) -> None:
    key = key_of(an_item(source="ab", signal_id="c"))
    await marks.mark(1, [key], [b"payload"], [7])

    assert await marks.known(1, [key._replace(source="a", signal_id="bc")], [b"payload"]) == [0]


async def test_another_epoch_knows_nothing_of_it(marks: DedupeMarks) -> None:
    item = an_item()
    await marks.mark(1, *words(item), [7])

    assert await marks.known(2, *words(item)) == [0]


@pytest.mark.parametrize(("first", "second"), [(9, 10), (10, 9), (2**52, 2**52 + 1)])
async def test_an_older_entry_does_not_take_the_place_of_a_newer_one(
    marks: DedupeMarks, first: int, second: int
) -> None:
    item = an_item(value=0.2)
    other = item._replace(value_q=item.value_q + 1)
    await marks.mark(1, *words(item), [first])
    await marks.mark(1, *words(other), [second])

    known = [*await marks.known(1, *words(item)), *await marks.known(1, *words(other))]

    assert known == ([0, second] if second > first else [first, 0])


async def test_a_batch_larger_than_a_script_should_be_is_marked_whole(marks: DedupeMarks) -> None:
    items = [an_item() for _ in range(2500)]
    seqs = list(range(1, 2501))

    await marks.mark(1, *words(*items), seqs)

    assert await marks.known(1, *words(*items)) == seqs


async def test_nothing_asked_is_nothing_known(marks: DedupeMarks) -> None:
    await marks.mark(1, [], [], [])

    assert await marks.known(1, [], []) == []


async def test_marks_go_after_their_time(redis_url: str, prefix: str) -> None:
    item = an_item()
    async with a_process(redis_url, prefix, marks_ttl_s=0.05) as parts:
        await parts.marks.mark(1, *words(item), [7])

        await eventually(lambda: parts.marks.known(1, *words(item)), lambda seqs: seqs == [0])


async def test_each_mark_stands_under_the_prefix_for_two_days(marks: DedupeMarks, redis_url: str, prefix: str) -> None:
    await marks.mark(1, *words(an_item(), an_item()), [7, 8])

    async with asking(redis_url) as ask:
        names = await keys_of(ask, prefix)
        left_ms = [await ask("PTTL", name) for name in names]
    assert len(names) == 2
    assert all(172_790_000 < left <= 172_800_000 for left in left_ms)


async def test_nothing_a_caller_wrote_stands_in_a_mark(marks: DedupeMarks, redis_url: str, prefix: str) -> None:
    item = an_item(source="secret-source", signal_id="secret-id", type="secret-type")
    await marks.mark(1, *words(item, tenant_id="secret-tenant"), [7])

    async with asking(redis_url) as ask:
        (name,) = await keys_of(ask, prefix)
        assert b"secret" not in name + await ask("GET", name)


@pytest.mark.parametrize("damaged", [b"", b"short", b"x" * 40])
async def test_a_damaged_mark_is_not_known_and_the_next_one_heals_it(
    marks: DedupeMarks, redis_url: str, prefix: str, damaged: bytes
) -> None:
    item = an_item()
    await marks.mark(1, *words(item), [7])
    async with asking(redis_url) as ask:
        (name,) = await keys_of(ask, prefix)
        await ask("SET", name, damaged)
    assert await marks.known(1, *words(item)) == [0]

    await marks.mark(1, *words(item), [7])

    assert await marks.known(1, *words(item)) == [7]


async def test_without_marks_nothing_is_known() -> None:
    marks: DedupeMarks = NoMarks()
    item = an_item()
    await marks.mark(1, *words(item), [7])

    assert await marks.known(1, *words(item)) == [0]
