"""The same signal over any mix of ways is stored once; the first answer stands."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest

from tests.builders import fresh
from tests.e2e.reading import all_events, all_signals, assert_log_is_whole, clock_us
from tests.e2e.rows import Row, a_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.client import Client
    from tests.e2e.ways import Answer, Way

pytestmark = pytest.mark.anyio

CALLERS = 50


async def test_r6_ac_ing_03_fifty_callers_of_one_key_over_all_ways_store_it_once(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    rows = [a_row(tenant, ts=await clock_us(client)) for _ in range(10)]

    answers = {row["signal_id"]: await _at_once(ways, row) for row in rows}

    stored = {s.signal.signal_id: s for s in await all_signals(client, tenant)}
    assert stored.keys() == answers.keys()
    for signal_id, given in answers.items():
        _assert_stored_once(given)
        shown = {(answer.seq, answer.provenance_id) for answer in given if answer.seq}
        assert shown == {(stored[signal_id].seq, stored[signal_id].provenance_id)}
    assert await assert_log_is_whole(client, tenant) == len(rows)
    assert len(await all_events(client, tenant)) == len(rows)


async def test_ac_ing_03_another_payload_under_a_stored_key_is_a_conflict_and_changes_nothing(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    first = a_row(tenant, ts=await clock_us(client), value=0.2)
    await ways[0].publish(first)
    before = await all_signals(client, tenant)

    for change in ({"value": 0.9}, {"weight": 2.0}, {"type": "deploy"}):
        for way in ways:
            answer = await way.publish(first | change)
            assert (answer.code, answer.reason) == (way.conflict, "SIGNAL_KEY_CONFLICT"), answer
            assert "signal_id" in answer.message or "signalId" in answer.message

    assert await all_signals(client, tenant) == before


async def test_ac_ing_03_conflicting_callers_at_once_leave_one_payload(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    base = a_row(tenant, ts=await clock_us(client))

    answers = await _all_at_once(
        [(way, base | {"value": (n % 2) / 2}) for n, way in enumerate(islice(cycle(ways), CALLERS))]
    )

    (stored,) = await all_signals(client, tenant)
    agreed = [answer for n, answer in enumerate(answers) if (n % 2) / 2 == stored.signal.value]
    refused = [answer for n, answer in enumerate(answers) if (n % 2) / 2 != stored.signal.value]
    _assert_stored_once(agreed)
    assert {answer.reason for answer in refused} == {"SIGNAL_KEY_CONFLICT"}


async def test_ac_ing_03_one_signal_id_in_two_tenants_is_two_signals(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    mine = a_row(tenant, ts=await clock_us(client), value=0.1)
    yours = mine | {"tenant_id": f"{tenant}-b", "value": 0.9}

    for way in ways:
        for row in (mine, yours):
            assert not (await way.publish(row)).code

    values = [[s.signal.value for s in await all_signals(client, row["tenant_id"])] for row in (mine, yours)]
    assert values == [[0.1], [0.9]]


async def test_ac_ing_03_a_request_without_ts_sent_again_with_its_request_id_is_one_signal(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    row = a_row(tenant, signal_id=None)

    answers = await _at_once(ways, row, fresh("request"))

    _assert_stored_once(answers)
    assert len(await all_signals(client, tenant)) == 1


async def test_ac_ing_03_a_request_id_with_other_content_is_refused(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    request_id = fresh("request")
    await ways[0].publish(a_row(tenant), request_id)

    for way in ways:
        answer = await way.publish(a_row(tenant), request_id)
        assert (answer.code, answer.reason) == (way.conflict, "REQUEST_ID_REUSED")

    assert len(await all_signals(client, tenant)) == 1


async def test_ac_ing_03_a_signal_without_id_is_known_by_its_content(
    client: Client, ways: Sequence[Way], tenant: str
) -> None:
    row = a_row(tenant, signal_id=None, ts=await clock_us(client))

    answers = await _at_once(ways, row)
    await ways[0].publish(row | {"value": 0.3})

    _assert_stored_once(answers)
    assert len(await all_signals(client, tenant)) == 2


def _assert_stored_once(answers: Sequence[Answer]) -> None:
    """None is refused, at most one shows STORED, and those that show a number show the same one."""
    assert not [answer for answer in answers if answer.code]
    outcomes = Counter(answer.outcome for answer in answers)
    # The mutation with a Boolean answer may have been the first.
    assert outcomes["STORED"] <= 1
    assert outcomes.keys() <= {"STORED", "DUPLICATE", "STORED or DUPLICATE"}
    assert len({(answer.seq, answer.provenance_id) for answer in answers if answer.seq}) == 1


async def _at_once(ways: Sequence[Way], row: Row, request_id: str = "") -> Sequence[Answer]:
    return await _all_at_once([(way, row) for way in islice(cycle(ways), CALLERS)], request_id)


async def _all_at_once(calls: Sequence[tuple[Way, Row]], request_id: str = "") -> Sequence[Answer]:
    async with asyncio.TaskGroup() as callers:
        tasks = [callers.create_task(way.publish(row, request_id)) for way, row in calls]
    return [task.result() for task in tasks]
