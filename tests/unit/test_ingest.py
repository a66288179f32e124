"""What is published is stored once, under the ids and instants it was promised."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import SystemClock, open_signal_store
from coherence_grpc.errors import Conflict, RequestIdReused, SignalInvalid, TsOutsideRetention
from coherence_grpc.ingest import Ingest, Publication
from coherence_grpc.ledger import encode_signal, request_hash
from coherence_grpc.model import DAY, SECOND, Outcome, Purpose, Retention, Tags
from tests.builders import NOON, TENANT, ManualClock, a_caller, a_draft, a_publication, fresh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.ingest import Published
    from coherence_grpc.model import Appended, Caller, Draft, Item
    from coherence_grpc.ports import Clock, SignalStore

pytestmark = pytest.mark.anyio
AHEAD = 300 * SECOND


class World:
    """An ingest on a real store, and what it announced."""

    def __init__(self, signals: SignalStore, clock: Clock, ingest: Ingest, announced: list[Appended]) -> None:
        self.signals = signals
        self.clock = clock
        self.ingest = ingest
        self.announced = announced

    async def publish(self, publication: Publication, caller: Caller | None = None) -> Published:
        return await self.ingest.publish(publication, caller or a_caller(), timeout_s=5)

    async def publish_drafts(self, *drafts: Item | Draft, request_id: str = "", tags: Tags | None = None) -> Published:
        return await self.publish(a_publication(*drafts, request_id=request_id, tags=tags))


@asynccontextmanager
async def open_world(
    directory: Path, *, clock: Clock | None = None, allow_unlimited: bool = True
) -> AsyncIterator[World]:
    clock = clock or ManualClock()
    announced: list[Appended] = []
    async with (
        open_signal_store(directory, clock) as signals,
        Ingest(signals, clock, on_commit=[announced.append], allow_unlimited=allow_unlimited) as ingest,
    ):
        yield World(signals, clock, ingest, announced)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def advance(world: World, us: int) -> None:
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(us)


def outcomes(published: Published) -> list[tuple[Outcome | None, int]]:
    return [(result.outcome, result.seq) for result in published.results]


def the_error(published: Published, index: int) -> tuple[type[Exception], str]:
    error = published.results[index].error
    assert error is not None
    (field,) = error.fields
    assert field.path in error.message
    return type(error), field.path


async def test_signals_are_stored_in_request_order_and_the_head_includes_them(world: World) -> None:
    published = await world.publish_drafts(a_draft(), a_draft(), a_draft())

    assert outcomes(published) == [(Outcome.STORED, 1), (Outcome.STORED, 2), (Outcome.STORED, 3)]
    assert published.head == await world.signals.head(TENANT)
    assert [item for appended in world.announced for item in appended.stored] == [r.item for r in published.results]


async def test_ac_ing_03_the_same_signal_again_is_a_duplicate_that_names_the_first(world: World) -> None:
    draft = a_draft()
    first = await world.publish_drafts(draft)

    second = await world.publish_drafts(draft)

    assert outcomes(second) == [(Outcome.DUPLICATE, 1)]
    assert second.results[0].provenance_id == first.results[0].provenance_id
    assert second.head == first.head
    assert len(world.announced) == 1


async def test_ac_ing_03_the_same_key_with_another_payload_is_a_conflict_and_the_stored_one_stays(world: World) -> None:
    await world.publish_drafts(a_draft(signal_id="s", value=0.2))

    published = await world.publish_drafts(a_draft(signal_id="s", value=0.3))

    assert isinstance(published.results[0].error, Conflict)
    (stored,) = await world.signals.tail(TENANT, after=0, limit=10)
    assert stored.item is not None
    assert stored.item.value_q == 200_000_000


async def test_contradiction_4_the_same_signal_id_in_two_tenants_is_two_signals(world: World) -> None:
    draft = a_draft(signal_id="s")

    one = await world.publish(a_publication(draft, tenant_id="one"))
    two = await world.publish(a_publication(draft, tenant_id="two"))

    assert outcomes(one) == outcomes(two) == [(Outcome.STORED, 1)]


async def test_ac_ing_03_r6_of_fifty_callers_with_one_key_one_stores_and_the_others_hear_of_it(world: World) -> None:
    drafts = [a_draft(signal_id=fresh("key")) for _ in range(20)]
    answers: dict[str, list[Published]] = {draft.signal_id: [] for draft in drafts}

    async def call(draft: Item | Draft) -> None:
        answers[draft.signal_id].append(await world.publish_drafts(draft))

    async with asyncio.TaskGroup() as callers:
        for draft in drafts:
            for _ in range(50):
                callers.create_task(call(draft))

    for published in answers.values():
        results = [answer.results[0] for answer in published]
        assert sorted(result.outcome or "" for result in results) == ["DUPLICATE"] * 49 + ["STORED"]
        assert len({(result.seq, result.provenance_id) for result in results}) == 1
    assert sum(len(appended.stored) for appended in world.announced) == 20


async def test_contradiction_2_a_signal_without_an_id_gets_one_of_its_content(world: World) -> None:
    draft = a_draft(signal_id="", value=0.2)
    first = await world.publish_drafts(draft)

    again = await world.publish_drafts(draft)
    other = await world.publish_drafts(a_draft(signal_id="", value=0.3))

    assert outcomes(again) == [(Outcome.DUPLICATE, 1)]
    assert outcomes(other) == [(Outcome.STORED, 2)]
    assert again.results[0].item == first.results[0].item


async def test_contradiction_5_a_signal_without_ts_is_dated_at_its_requests_first_sight(world: World) -> None:
    draft = a_draft(signal_id="", ts=None)
    first = await world.publish_drafts(draft, draft, request_id="r1")
    advance(world, 60 * SECOND)

    again = await world.publish_drafts(draft, draft, request_id="r1")

    assert outcomes(first) == [(Outcome.STORED, 1), (Outcome.STORED, 2)]
    assert outcomes(again) == [(Outcome.DUPLICATE, 1), (Outcome.DUPLICATE, 2)]
    assert [result.item for result in again.results] == [result.item for result in first.results]
    assert {result.item.ts for result in first.results if result.item} == {NOON}


async def test_ac_ing_04_a_retry_after_a_restart_gets_the_first_reply(tmp_path: Path) -> None:
    draft = a_draft(signal_id="", ts=None)
    async with open_world(tmp_path) as world:
        first = await world.publish_drafts(draft, request_id="r1")

    async with open_world(tmp_path, clock=ManualClock(NOON + 5 * SECOND)) as world:
        again = await world.publish_drafts(draft, request_id="r1")

        assert outcomes(again) == [(Outcome.DUPLICATE, 1)]
        assert again.results[0].item == first.results[0].item
        assert (await world.signals.head(TENANT)).seq == 1


async def test_without_a_request_id_a_signal_without_ts_is_stored_each_time(world: World) -> None:
    draft = a_draft(signal_id="", ts=None)

    await world.publish_drafts(draft)
    second = await world.publish_drafts(draft)

    assert outcomes(second) == [(Outcome.STORED, 2)]


async def test_a_named_signal_without_ts_keeps_its_name(world: World) -> None:
    published = await world.publish_drafts(a_draft(signal_id="mine", ts=None), request_id="r1")

    assert published.results[0].item is not None
    assert published.results[0].item.signal_id == "mine"
    assert published.results[0].item.ts == NOON


async def test_a_request_id_with_other_content_is_refused(world: World) -> None:
    await world.publish_drafts(a_draft(signal_id="s", value=0.2), request_id="r1")

    with pytest.raises(RequestIdReused, match="r1"):
        await world.publish_drafts(a_draft(signal_id="s", value=0.3), request_id="r1")


async def test_a_malformed_item_at_another_place_makes_another_request(world: World) -> None:
    draft, malformed = a_draft(), SignalInvalid("signals[0].value is missing")
    first = await world.publish(a_publication(draft, request_id="r1", refused={0: malformed}))
    again = await world.publish(a_publication(draft, request_id="r1", refused={0: malformed}))

    with pytest.raises(RequestIdReused):
        await world.publish(a_publication(draft, request_id="r1", refused={1: malformed}))

    assert outcomes(first) == [(None, 0), (Outcome.STORED, 1)]
    assert outcomes(again) == [(None, 0), (Outcome.DUPLICATE, 1)]
    assert isinstance(again.results[0].error, SignalInvalid)


@pytest.mark.parametrize(
    ("ts", "error", "word"),
    [
        (NOON + AHEAD + 1, SignalInvalid, "ahead"),
        (-1, TsOutsideRetention, "1970"),
        (NOON - 365 * DAY - 1, TsOutsideRetention, "standard-365d"),
    ],
)
async def test_an_instant_out_of_bounds_refuses_its_signal_only(
    world: World, ts: int, error: type[Exception], word: str
) -> None:
    published = await world.publish_drafts(a_draft(), a_draft(ts=ts), a_draft(signal_id="", ts=ts), a_draft())

    assert outcomes(published) == [(Outcome.STORED, 1), (None, 0), (None, 0), (Outcome.STORED, 2)]
    assert the_error(published, 1) == (error, "signals[1].ts")
    assert the_error(published, 2) == (error, "signals[2].ts")
    assert word in str(published.results[1].error)


@pytest.mark.parametrize("ts", [NOON + AHEAD, NOON - 365 * DAY, NOON])
async def test_an_instant_on_the_bounds_is_stored(world: World, ts: int) -> None:
    published = await world.publish_drafts(a_draft(ts=ts))

    assert outcomes(published) == [(Outcome.STORED, 1)]


@pytest.mark.parametrize(
    ("retention", "days"), [(Retention.SHORT, 30), (Retention.STANDARD, 365), (Retention.LONG, 1825)]
)
async def test_a_signal_is_kept_to_its_own_retention(world: World, retention: Retention, days: int) -> None:
    kept, gone = a_draft(ts=NOON - days * DAY), a_draft(ts=NOON - days * DAY - 1)

    published = await world.publish_drafts(kept, gone, tags=Tags(retention=retention))

    assert outcomes(published) == [(Outcome.STORED, 1), (None, 0)]


async def test_unlimited_retention_takes_signals_from_1970_on(world: World) -> None:
    published = await world.publish_drafts(a_draft(ts=0), a_draft(ts=-1), tags=Tags(retention=Retention.UNLIMITED))

    assert outcomes(published) == [(Outcome.STORED, 1), (None, 0)]


async def test_unlimited_retention_is_refused_unless_the_configuration_allows_it(tmp_path: Path) -> None:
    async with open_world(tmp_path, allow_unlimited=False) as world:
        with pytest.raises(SignalInvalid) as refused:
            await world.publish_drafts(a_draft(), tags=Tags(retention=Retention.UNLIMITED))

        assert [field.path for field in refused.value.fields] == ["tags.retention"]
        assert (await world.signals.head(TENANT)).seq == 0


async def test_a_single_signal_is_named_by_its_own_path(world: World) -> None:
    published = await world.publish(a_publication(a_draft(ts=-1), item_path="signal"))

    assert the_error(published, 0) == (TsOutsideRetention, "signal.ts")


async def test_a_refused_instant_between_malformed_items_keeps_every_index(world: World) -> None:
    malformed = {0: SignalInvalid("signals[0] is bad"), 3: SignalInvalid("signals[3] is bad")}

    published = await world.publish(a_publication(a_draft(), a_draft(ts=-1), a_draft(), refused=malformed))

    assert outcomes(published) == [(None, 0), (Outcome.STORED, 1), (None, 0), (None, 0), (Outcome.STORED, 2)]
    assert the_error(published, 2) == (TsOutsideRetention, "signals[2].ts")
    assert published.results[3].error is malformed[3]


async def test_a_request_that_aged_out_meanwhile_still_gets_its_first_reply(world: World) -> None:
    draft, tags = a_draft(ts=NOON - 30 * DAY), Tags(retention=Retention.SHORT)
    await world.publish_drafts(draft, request_id="r1", tags=tags)
    advance(world, SECOND)

    again = await world.publish_drafts(draft, request_id="r1", tags=tags)
    anew = await world.publish_drafts(draft, tags=tags)

    assert outcomes(again) == [(Outcome.DUPLICATE, 1)]
    assert the_error(anew, 0) == (TsOutsideRetention, "signals[0].ts")


async def test_a_request_refused_in_full_stores_nothing_and_is_not_remembered(world: World) -> None:
    refused = await world.publish_drafts(a_draft(ts=NOON + AHEAD + 1, signal_id="s"), request_id="r1")
    advance(world, SECOND)

    later = await world.publish_drafts(a_draft(ts=NOON + AHEAD + 1, signal_id="s"), request_id="r1")

    assert (outcomes(refused), refused.head.seq) == ([(None, 0)], 0)
    assert outcomes(later) == [(Outcome.STORED, 1)]


async def test_validate_only_answers_as_if_stored_and_writes_nothing(world: World) -> None:
    publication = a_publication(a_draft(signal_id="", ts=None), a_draft(ts=-1), a_draft(), validate_only=True)

    published = await world.publish(publication)

    assert outcomes(published) == [(Outcome.STORED, 0), (None, 0), (Outcome.STORED, 0)]
    assert published.results[0].item is not None
    assert published.results[0].item.ts == NOON
    assert published.head == await world.signals.head(TENANT)
    assert published.head.seq == 0
    assert not world.announced


async def test_ac_ing_02_a_provenance_record_says_who_stored_what_when_and_under_which_tags(world: World) -> None:
    tags = Tags(purpose=Purpose.DEMO, retention=Retention.LONG)
    caller = a_caller(principal="service-a", transport="http", traceparent="00-1-2-01")
    draft = a_draft(signal_id="", ts=None)

    published = await world.publish(a_publication(draft, request_id="r1", tags=tags, backfill=True), caller)

    record = await world.signals.provenance(TENANT, published.results[0].provenance_id)
    assert record is not None
    assert (record.request_id, record.tags, record.principal, record.transport) == ("r1", tags, "service-a", "http")
    assert (record.received_at, record.traceparent, record.backfill) == (NOON, "00-1-2-01", True)
    sent = encode_signal(draft.source, "", draft.type, draft.value_q, draft.weight_q, 0)
    assert record.request_hash == request_hash(TENANT, [(0, sent)], tags, backfill=True)


async def test_the_server_makes_a_request_id_when_none_is_given(world: World) -> None:
    first, second = await world.publish_drafts(a_draft()), await world.publish_drafts(a_draft())

    records = [
        await world.signals.provenance(TENANT, published.results[0].provenance_id) for published in (first, second)
    ]
    request_ids = {record.request_id for record in records if record}
    assert len(request_ids) == 2
    assert all(len(request_id) == 36 for request_id in request_ids)


async def test_r22_when_the_system_clock_goes_back_nothing_is_refused_and_time_stands(tmp_path: Path) -> None:
    wall = NOON
    clock = SystemClock(lambda: wall)
    async with open_world(tmp_path, clock=clock) as world:
        await world.publish_drafts(a_draft(ts=NOON + AHEAD))
        wall -= 600 * SECOND

        published = await world.publish_drafts(a_draft(ts=wall), a_draft(ts=None), a_draft(ts=NOON + AHEAD))

        assert [seq for _, seq in outcomes(published)] == [2, 3, 4]
        entries = await world.signals.tail(TENANT, after=0, limit=10)
        assert [entry.recorded_at for entry in entries] == [NOON] * 4

    clock = SystemClock(lambda: wall)
    async with open_world(tmp_path, clock=clock) as world:
        published = await world.publish_drafts(a_draft(ts=NOON + AHEAD), a_draft(ts=None))

        assert outcomes(published) == [(Outcome.STORED, 5), (Outcome.STORED, 6)]
        assert (await world.signals.tail(TENANT, after=5, limit=1))[0].recorded_at == NOON
