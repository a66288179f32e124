"""SignalStore.append, sentence by sentence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import Conflict, FieldError, RequestIdReused, SignalInvalid
from coherence_grpc.model import GENESIS, Appended, Head, Outcome, Retention, Tags
from tests.builders import NOON, TENANT, ManualClock, a_provenance, a_write, an_item, key_of
from tests.conformance.asking import append, append_items, entries, stored, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Item, Result
    from coherence_grpc.ports import SignalStore
    from tests.conformance.homes import SignalHome

pytestmark = pytest.mark.anyio


def outcomes(results: Sequence[Result]) -> list[Outcome | str]:
    return [result.outcome or (result.error.reason if result.error else "?") for result in results]


async def test_new_keys_take_the_tenants_next_numbers(signals: SignalStore) -> None:
    first, second, third = an_item(), an_item(), an_item()

    one, other = await append(signals, a_write(first, second), a_write(third))

    assert [(r.outcome, r.seq, r.item) for r in one.results] == [
        (Outcome.STORED, 1, first),
        (Outcome.STORED, 2, second),
    ]
    assert [(r.outcome, r.seq, r.item) for r in other.results] == [(Outcome.STORED, 3, third)]
    assert await stored(signals) == [first, second, third]


async def test_answers_come_in_the_order_of_the_writes_of_any_tenants(signals: SignalStore) -> None:
    writes = [a_write(an_item(), tenant_id=tenant_id) for tenant_id in ("b", "a", "b", "c", "a")]

    answers = await append(signals, *writes)

    assert [answer.write for answer in answers] == writes
    assert [answer.first_seq for answer in answers] == [1, 1, 2, 1, 2]


async def test_what_a_write_did_is_told_with_its_entries_and_the_head_after_the_commit(signals: SignalStore) -> None:
    first, second = an_item(), an_item()

    one, other = await append(signals, a_write(first, second), a_write(an_item()))

    assert (one.first_seq, one.stored, one.recorded_at) == (1, [first, second], NOON)
    assert list(one.hashes) == [entry.head_hash for entry in await entries(signals)][:2]
    assert one.head == other.head == await signals.head(TENANT) == Head(signals.epoch, 3, other.hashes[-1])


async def test_ac_ing_03_a_key_already_there_with_the_same_payload_is_a_duplicate_of_the_first_entry(
    signals: SignalStore,
) -> None:
    item = an_item()
    first = await append_items(signals, item)

    again = await append_items(signals, item)

    (result,) = again.results
    assert (result.outcome, result.seq) == (Outcome.DUPLICATE, 1)
    assert result.provenance_id == first.write.provenance.provenance_id
    assert (again.stored, again.hashes, again.head) == ((), (), first.head)
    assert await stored(signals) == [item]


@pytest.mark.parametrize("change", [{"value": 0.9}, {"weight": 2.0}, {"type": "deploy"}])
async def test_a_key_already_there_with_another_payload_is_a_conflict_and_changes_nothing(
    signals: SignalStore, change: dict[str, float]
) -> None:
    first = an_item(signal_id="one", value=0.2)
    await append_items(signals, first)

    changed = await append_items(signals, an_item(signal_id="one", **{"value": 0.2, **change}))  # type: ignore[arg-type] # a test's parameters

    (result,) = changed.results
    assert isinstance(result.error, Conflict)
    assert (result.outcome, result.seq, result.provenance_id, result.item) == (None, 0, "", None)
    assert await stored(signals) == [first]


async def test_the_same_signal_id_in_two_tenants_is_two_signals(signals: SignalStore) -> None:
    item = an_item()

    one, other = await append(signals, a_write(item, tenant_id="a"), a_write(item, tenant_id="b"))

    assert outcomes([*one.results, *other.results]) == [Outcome.STORED, Outcome.STORED]
    assert await stored(signals, "a") == await stored(signals, "b") == [item]


@pytest.mark.parametrize("together", [True, False])
async def test_of_the_same_key_twice_the_first_decides(signals: SignalStore, together: bool) -> None:
    first = an_item(signal_id="one", value=0.2)
    same, other = first, an_item(signal_id="one", value=0.9)
    writes = [a_write(first, same, other)] if together else [a_write(first), a_write(same), a_write(other)]

    answers = await append(signals, *writes)

    results = [result for answer in answers for result in answer.results]
    assert outcomes(results) == [Outcome.STORED, Outcome.DUPLICATE, "SIGNAL_KEY_CONFLICT"]
    assert results[1][1:3] == results[0][1:3]
    assert await stored(signals) == [first]


async def test_duplicates_leave_no_hole_in_the_sequence(signals: SignalStore) -> None:
    known = [an_item() for _ in range(20)]
    await append_items(signals, *known)
    mixed = [item for pair in zip(known, [an_item() for _ in known], strict=True) for item in pair]

    appended = await append_items(signals, *mixed)

    assert [result.seq for result in appended.results if result.outcome is Outcome.STORED] == list(range(21, 41))
    assert [entry.seq for entry in await entries(signals)] == list(range(1, 41))
    assert (await verdict(signals)).checked == 40


async def test_refusals_keep_their_index(signals: SignalStore) -> None:
    error = SignalInvalid("signals[1].value: give a number", fields=[FieldError("signals[1].value", "give a number")])
    good, better = an_item(), an_item()

    (appended,) = await append(signals, a_write(good, better, refused={1: error}))

    assert outcomes(appended.results) == [Outcome.STORED, "SIGNAL_INVALID", Outcome.STORED]
    assert appended.results[1].error is error
    assert await stored(signals) == [good, better]


async def test_ac_ing_03_a_request_id_seen_before_gets_its_first_results_and_writes_nothing(
    signals: SignalStore,
) -> None:
    known, clashing = an_item(), an_item(signal_id="taken", value=0.1)
    await append_items(signals, known, clashing)
    error = SignalInvalid("bad", fields=[FieldError("signals[3].weight", "at most 1000")], metadata={"a": "b"})
    items = [an_item(), known, an_item(signal_id="taken", value=0.2), an_item()]
    write = a_write(*items, request_id="r", refused={3: error})
    (first,) = await append(signals, write)
    head = await signals.head(TENANT)

    (again,) = await append(signals, a_write(*items, request_id="r", refused={3: error}))

    assert outcomes(first.results)[0] == Outcome.STORED
    assert outcomes(again.results) == [
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
        "SIGNAL_KEY_CONFLICT",
        "SIGNAL_INVALID",
        Outcome.DUPLICATE,
    ]
    assert [result[1:4] for result in again.results] == [result[1:4] for result in first.results]
    refusal = again.results[3].error
    assert refusal is not None
    assert (refusal.message, refusal.fields, refusal.metadata) == (error.message, error.fields, error.metadata)
    assert (again.first_seq, again.stored, again.head) == (0, (), head)
    assert await signals.provenance(TENANT, again.write.provenance.provenance_id) is None


async def test_a_replayed_request_is_told_the_ts_of_its_first_sight(signals: SignalStore) -> None:
    first = an_item(signal_id="made", ts=NOON)
    await append(signals, a_write(first, provenance=a_provenance(request_id="r", hashed=b"h" * 32)))

    later = a_write(first._replace(ts=NOON + 5), provenance=a_provenance(request_id="r", hashed=b"h" * 32))
    (again,) = await append(signals, later, now=NOON + 5)

    assert [(r.outcome, r.seq, r.item) for r in again.results] == [(Outcome.DUPLICATE, 1, first)]
    assert await stored(signals) == [first]


async def test_a_request_id_seen_earlier_in_the_same_call_is_seen(signals: SignalStore) -> None:
    items = [an_item() for _ in range(20)]

    first, again = await append(signals, a_write(*items, request_id="r"), a_write(*items, request_id="r"))

    assert outcomes(again.results) == [Outcome.DUPLICATE] * 20
    assert [r.seq for r in again.results] == [r.seq for r in first.results]
    assert {r.provenance_id for r in again.results} == {first.write.provenance.provenance_id}


async def test_a_request_id_is_remembered_across_a_restart(signal_home: SignalHome, clock: ManualClock) -> None:
    item = an_item()
    async with signal_home.signals(clock) as signals:
        await append(signals, a_write(item, request_id="r"))

    async with signal_home.signals(clock) as signals:
        (again,) = await append(signals, a_write(item, request_id="r"))

        assert [(r.outcome, r.seq) for r in again.results] == [(Outcome.DUPLICATE, 1)]


async def test_a_request_id_seen_before_with_another_hash_is_refused(signals: SignalStore) -> None:
    await append(signals, a_write(an_item(), request_id="r"))

    answers = await signals.append([a_write(an_item(), request_id="r"), a_write(an_item())], now=NOON)

    assert isinstance(answers[0], RequestIdReused)
    assert isinstance(answers[1], Appended)
    assert len(await stored(signals)) == 2


async def test_a_request_id_belongs_to_its_tenant(signals: SignalStore) -> None:
    one, other = await append(signals, a_write(tenant_id="a", request_id="r"), a_write(tenant_id="b", request_id="r"))

    assert outcomes([*one.results, *other.results]) == [Outcome.STORED, Outcome.STORED]


async def test_a_write_that_stores_nothing_is_not_remembered(signals: SignalStore) -> None:
    item = an_item()
    await append_items(signals, item)
    (nothing,) = await append(signals, a_write(item, request_id="r"))

    (appended,) = await append(signals, a_write(an_item(), request_id="r"))

    assert outcomes(appended.results) == [Outcome.STORED]
    assert await signals.provenance(TENANT, nothing.write.provenance.provenance_id) is None


async def test_a_refused_write_leaves_no_tenant_behind(signals: SignalStore) -> None:
    write = a_write(an_item(), refused={0: SignalInvalid("bad")})
    await append(signals, type(write)(write.provenance, (), (), (), {0: SignalInvalid("bad")}))

    assert await signals.tenants() == []
    assert await signals.head(TENANT) == Head(signals.epoch, 0, GENESIS)


async def test_ac_ing_02_every_new_entry_has_the_writes_provenance(signals: SignalStore) -> None:
    tags = Tags(retention=Retention.UNLIMITED)
    write = a_write(an_item(), an_item(), tags=tags, backfill=True, traceparent="00-trace")

    await append(signals, write)

    record = write.provenance
    assert await signals.provenance(TENANT, record.provenance_id) == record
    assert [(e.provenance_id, e.backfill, e.traceparent) for e in await entries(signals)] == [
        (record.provenance_id, True, "00-trace")
    ] * 2


async def test_recorded_at_is_now_and_never_falls_along_the_log(signals: SignalStore) -> None:
    await append_items(signals, an_item(), now=NOON + 10)

    late = await append_items(signals, an_item(), now=NOON)
    await append_items(signals, an_item(), now=NOON + 20)

    assert late.recorded_at == NOON + 10
    assert [entry.recorded_at for entry in await entries(signals)] == [NOON + 10, NOON + 10, NOON + 20]


@pytest.mark.parametrize("size", [1, 7, 8, 1000])
async def test_entries_carry_the_ledgers_hashes(signals: SignalStore, size: int) -> None:
    appended = await append_items(signals, *[an_item() for _ in range(size)])

    checked = await verdict(signals)

    assert (checked.checked, checked.first_bad_seq, checked.head_hash) == (size, 0, appended.head.head_hash)


async def test_what_was_answered_is_there_after_a_restart(signal_home: SignalHome, clock: ManualClock) -> None:
    item = an_item()
    async with signal_home.signals(clock) as signals:
        before = await append_items(signals, item)

    async with signal_home.signals(clock) as signals:
        after = await append_items(signals, an_item())

        assert (await stored(signals))[0] == item
        assert (await verdict(signals)).checked == 2
        assert (before.head.seq, after.head.seq) == (1, 2)


def unstorable() -> Item:
    """An item that passed for good and that no store can take."""
    return an_item()._replace(source="\ud800")


async def test_nothing_of_a_failed_call_is_visible_not_even_after_a_restart(
    signal_home: SignalHome, clock: ManualClock
) -> None:
    good, bad = a_write(an_item()), a_write(an_item())
    bad = type(bad)(bad.provenance, [unstorable()], bad.payloads, bad.positions, {})
    kept = an_item()
    async with signal_home.signals(clock) as signals:
        with pytest.raises(Exception, match=r".+"):
            await signals.append([good, a_write(tenant_id="new"), bad], now=NOON)
        seen = await stored(signals), await signals.tenants(), await signals.head(TENANT)

    async with signal_home.signals(clock) as signals:
        await append_items(signals, kept)

        assert seen == ([], [], Head(signals.epoch, 0, GENESIS))
        assert await stored(signals) == [kept]
        assert await signals.tenants() == [TENANT]
        assert (await verdict(signals)).checked == 1


async def test_after_a_failed_call_the_writes_go_through_one_by_one(signals: SignalStore) -> None:
    good, bad = a_write(an_item(), request_id="r"), a_write(an_item())
    bad = type(bad)(bad.provenance, [unstorable()], bad.payloads, bad.positions, {})
    with pytest.raises(Exception, match=r".+"):
        await signals.append([good, bad], now=NOON)

    (appended,) = await append(signals, good)

    assert outcomes(appended.results) == [Outcome.STORED]


async def test_a_cancelled_caller_does_not_cancel_the_commit(signals: SignalStore) -> None:
    write = a_write(an_item())
    call = asyncio.ensure_future(signals.append([write], now=NOON))
    while not call.done() and not call.cancelling():
        await asyncio.sleep(0)
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    # It queues behind the commit that nobody waits for any more.
    (again,) = await append(signals, write)

    assert [(r.outcome, r.seq) for r in again.results] == [(Outcome.DUPLICATE, 1)]
    assert await signals.head(TENANT) == again.head
    assert (await verdict(signals)).checked == 1


async def test_r6_one_of_fifty_concurrent_writes_of_a_key_stores_it(signals: SignalStore) -> None:
    items = [an_item() for _ in range(20)]
    calls = [asyncio.ensure_future(append(signals, a_write(item))) for item in items for _ in range(50)]

    results = [result for call in calls for appended in await call for result in appended.results]

    assert outcomes(results).count(Outcome.STORED) == 20
    assert outcomes(results).count(Outcome.DUPLICATE) == 980
    by_key = {key_of(result.item): set[tuple[int, str]]() for result in results if result.item}
    for result in results:
        assert result.item is not None
        by_key[key_of(result.item)].add((result.seq, result.provenance_id))
    assert [len(answers) for answers in by_key.values()] == [1] * 20
    assert [entry.seq for entry in await entries(signals)] == list(range(1, 21))


@pytest.mark.parametrize("text", ["'; DROP TABLE entries; --", "naïve café", "\N{SNOWMAN}" * 128, "$where", "a b"])
async def test_any_text_is_stored_as_it_is(signals: SignalStore, text: str) -> None:
    item = an_item(source=text, signal_id=text, type=text[:64])

    await append_items(signals, item)

    assert await stored(signals) == [item]
    found = await signals.get(key_of(item))
    assert found is not None
    assert found.item == item
