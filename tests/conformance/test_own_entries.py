"""SignalStore.append_own, sentence by sentence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import EtagMismatch, RequestIdReused
from coherence_grpc.model import DAY, EntryKind, Head, Outcome, Retention, Tags
from coherence_grpc.policy import DEFAULT_ETAG, ScorePolicy, encode_policy, etag_of
from tests.builders import NOON, TENANT, ManualClock, a_provenance, a_write, an_item, fresh
from tests.conformance.asking import append, append_items, entries, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Entry
    from coherence_grpc.ports import SignalStore
    from tests.conformance.homes import SignalHome

pytestmark = pytest.mark.anyio

POLICY = encode_policy(ScorePolicy(healthy_ppm=800_000))
BOTH = pytest.mark.parametrize("kind", [EntryKind.POLICY, EntryKind.RECOMPUTE])


async def put(
    signals: SignalStore,
    kind: EntryKind = EntryKind.POLICY,
    payload: bytes = POLICY,
    *,
    request_id: str | None = None,
    hashed: bytes | None = None,
    now: int = NOON,
    based_on: int | None = None,
) -> Entry:
    provenance = a_provenance(request_id=request_id, hashed=hashed)
    return await signals.append_own(TENANT, kind, payload, provenance, now=now, based_on=based_on)


@BOTH
async def test_it_is_put_behind_the_log_and_returned(signals: SignalStore, kind: EntryKind) -> None:
    await append_items(signals, an_item())
    provenance = a_provenance(traceparent="00-trace")

    entry = await signals.append_own(TENANT, kind, POLICY, provenance, now=NOON + 7)

    assert (entry.seq, entry.kind, entry.item, entry.superseded) == (2, kind, None, None)
    assert (entry.payload, entry.erased, entry.recorded_at) == (POLICY, False, NOON + 7)
    assert (entry.provenance_id, entry.traceparent) == (provenance.provenance_id, "00-trace")
    assert (await entries(signals))[1:] == [entry]
    assert await signals.head(TENANT) == Head(signals.epoch, 2, entry.head_hash)


@BOTH
@pytest.mark.parametrize("payload", [b"", POLICY])
async def test_it_is_hashed_as_any_other_under_its_provenance(
    signals: SignalStore, kind: EntryKind, payload: bytes
) -> None:
    await append_items(signals, an_item())
    entry = await put(signals, kind, payload)
    await append_items(signals, an_item())

    checked = await verdict(signals)
    rows = await signals.provenance_rows(TENANT, entry.provenance_id, limit=10)

    assert (checked.checked, checked.erased, checked.first_bad_seq) == (3, 0, 0)
    assert [(row.seq, row.kind, row.payload) for row in rows] == [(2, kind, payload)]
    assert (await entries(signals))[1] == entry


@BOTH
async def test_it_may_be_the_first_of_a_log_and_is_there_after_a_restart(
    signal_home: SignalHome, clock: ManualClock, kind: EntryKind
) -> None:
    async with signal_home.signals(clock) as signals:
        entry = await put(signals, kind)
        other = await signals.append_own("other", kind, POLICY, a_provenance(tenant_id="other"), now=NOON)

    async with signal_home.signals(clock) as signals:
        appended = await append_items(signals, an_item())

        assert (await entries(signals))[0] == entry
        assert await entries(signals, "other") == [other]
        assert (entry.seq, appended.first_seq) == (1, 2)
        assert await signals.tenants() == [TENANT, "other"]
        assert (await verdict(signals)).checked == 2


async def test_its_recorded_at_never_falls_along_the_log(signals: SignalStore) -> None:
    await append_items(signals, an_item(), now=NOON + 10)

    assert (await put(signals, now=NOON)).recorded_at == NOON + 10


@BOTH
async def test_a_request_id_seen_before_gets_the_entry_of_the_first_time_and_writes_nothing(
    signal_home: SignalHome, clock: ManualClock, kind: EntryKind
) -> None:
    async with signal_home.signals(clock) as signals:
        first = await put(signals, kind, request_id="r", based_on=0)
        await append_items(signals, an_item())

    async with signal_home.signals(clock) as signals:
        again = await put(signals, kind, request_id="r", now=NOON + 9, based_on=0)

        assert again == first
        assert (await signals.head(TENANT)).seq == 2


async def test_a_request_id_of_another_request_is_refused(signals: SignalStore) -> None:
    await put(signals, request_id="r")
    await append(signals, a_write(an_item(), request_id="s"))

    for request_id in ("r", "s"):
        with pytest.raises(RequestIdReused):
            await put(signals, request_id=request_id, hashed=b"another".ljust(32))

    assert (await signals.head(TENANT)).seq == 2


async def test_a_request_id_of_the_servers_own_entry_is_taken_for_signals(signals: SignalStore) -> None:
    await put(signals, request_id="r")

    (answer,) = await signals.append([a_write(an_item(), request_id="r")], now=NOON)

    assert isinstance(answer, RequestIdReused)


async def test_what_is_based_on_the_newest_policy_is_written(signals: SignalStore) -> None:
    first = await put(signals, based_on=0)
    await append_items(signals, an_item())
    await put(signals, EntryKind.RECOMPUTE, b"")

    second = await put(signals, based_on=first.seq)

    assert (first.seq, second.seq) == (1, 4)


async def test_what_is_based_on_another_policy_is_refused_with_the_etag_of_the_newest(signals: SignalStore) -> None:
    await append_items(signals, an_item())
    with pytest.raises(EtagMismatch) as none_yet:
        await put(signals, based_on=1)
    first = await put(signals)
    with pytest.raises(EtagMismatch) as not_the_newest:
        await put(signals, based_on=0)

    assert none_yet.value.metadata == {"etag": DEFAULT_ETAG}
    assert not_the_newest.value.metadata == {"etag": etag_of(first.seq, POLICY)}
    assert (await signals.head(TENANT)).seq == 2
    assert (await verdict(signals)).checked == 2


async def test_a_refused_entry_leaves_no_tenant_and_no_record_behind(signals: SignalStore) -> None:
    provenance = a_provenance()

    with pytest.raises(EtagMismatch):
        await signals.append_own(TENANT, EntryKind.POLICY, POLICY, provenance, now=NOON, based_on=3)

    assert await signals.tenants() == []
    assert await signals.provenance(TENANT, provenance.provenance_id) is None


async def test_of_concurrent_entries_based_on_the_same_policy_one_is_written(signals: SignalStore) -> None:
    calls = [asyncio.ensure_future(put(signals, request_id=fresh("own"), based_on=0)) for _ in range(10)]

    answers = await asyncio.wait_for(_all(calls), timeout=30)

    written = [answer for answer in answers if not isinstance(answer, BaseException)]
    refused = [answer for answer in answers if isinstance(answer, EtagMismatch)]
    assert (len(written), len(refused)) == (1, 9)
    assert [entry.seq for entry in await entries(signals)] == [1]


async def _all(calls: Sequence[asyncio.Future[Entry]]) -> list[Entry | BaseException]:
    await asyncio.wait(calls)
    return [call.exception() or call.result() for call in calls]


async def test_entries_and_signals_that_come_at_once_make_one_gapless_log(signals: SignalStore) -> None:
    writes = [asyncio.ensure_future(append_items(signals, an_item())) for _ in range(20)]
    own = [asyncio.ensure_future(put(signals, EntryKind.RECOMPUTE, b"")) for _ in range(20)]

    async with asyncio.timeout(30):
        for writing in writes:
            await writing
        for call in own:
            await call

    log = await entries(signals)
    assert [entry.seq for entry in log] == list(range(1, 41))
    assert [entry.kind for entry in log].count(EntryKind.RECOMPUTE) == 20
    assert (await verdict(signals)).checked == 40


async def test_a_cancelled_caller_does_not_cancel_the_commit_of_an_own_entry(signals: SignalStore) -> None:
    call = asyncio.ensure_future(put(signals, request_id="r"))
    while not call.done() and not call.cancelling():
        await asyncio.sleep(0)
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    # It queues behind the commit that nobody waits for any more.
    again = await put(signals, request_id="r")

    assert again.seq == 1
    assert [entry.seq for entry in await entries(signals)] == [1]
    assert (await verdict(signals)).checked == 1


async def test_it_moves_the_log_and_no_signal(signals: SignalStore) -> None:
    await append_items(signals, an_item())

    await put(signals)

    window = await signals.window(TENANT, start=0)
    assert (list(window.ts), window.head.seq) == ([NOON], 2)
    assert (await signals.retained([TENANT]))[:2] == (1, 2)
    assert await signals.first_readable(TENANT) == 1
    assert await signals.moved(since=NOON) == {TENANT: window.head}


async def test_it_is_never_erased(signals: SignalStore) -> None:
    own = [await put(signals), await put(signals, EntryKind.RECOMPUTE, b"")]
    old = an_item(ts=NOON - 40 * DAY)
    (appended,) = await append(signals, a_write(old, tags=Tags(retention=Retention.SHORT)))

    await signals.prune(TENANT, now=NOON + 4000 * DAY, provenance=a_provenance(), limit=10, dry_run=False)

    assert appended.results[0].outcome is Outcome.STORED
    assert (await entries(signals))[:2] == own
    assert (await signals.policy(TENANT)).seq == 1
