"""R17: a bad value is refused on every way in, by its field and with the remedy, and nothing is stored."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from coherence.v1.ingest_pb2 import ListSignalsRequest
from tests.e2e.reading import clock_us, entry_count
from tests.e2e.rows import a_row, batch_of, camel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coherence.v1.signal_pb2 import StoredSignal
    from coherence_grpc.client import Client
    from tests.e2e.ways import Answer, Way

pytestmark = pytest.mark.anyio

MINUTE_US: Final = 60 * 10**6
DAY_US: Final = 86_400 * 10**6
Y9999_US: Final = 253_402_300_000 * 10**6
Y1960_US: Final = -315_000_000 * 10**6
INVALID: Final = {"INVALID_ARGUMENT", "400", "BAD_USER_INPUT"}
OUT_OF_RANGE: Final = {"OUT_OF_RANGE", "400", "BAD_USER_INPUT"}


class Bad(NamedTuple):
    """A field with a value that is refused, and what the message must hold beside the field's name."""

    name: str
    field: str
    value: Any
    remedy: str
    reason: str = "SIGNAL_INVALID"
    json: bool = True

    @property
    def codes(self) -> set[str]:
        """What the ways say, each in its words."""
        return OUT_OF_RANGE if self.reason == "TS_OUTSIDE_RETENTION" else INVALID


BAD: Final = [
    Bad("value nan", "value", math.nan, "finite|0.*1", json=False),
    Bad("value infinity", "value", math.inf, "finite|0.*1", json=False),
    Bad("value minus infinity", "value", -math.inf, "finite|0.*1", json=False),
    Bad("value below 0", "value", -0.1, "0.*1"),
    Bad("value above 1", "value", 1.1, "0.*1"),
    Bad("value left out", "value", None, "required|must be given|missing|0.*1"),
    Bad("weight below 0", "weight", -1.0, "0.*1000"),
    Bad("weight above 1000", "weight", 1001.0, "0.*1000"),
    Bad("weight nan", "weight", math.nan, "finite|0.*1000", json=False),
    Bad("source empty", "source", "", "1|empty|required"),
    Bad("source of 10 kB", "source", "x" * 10_000, "128"),
    Bad("source with NUL", "source", "a\x00b", "control|printable"),
    Bad("source with escape", "source", "\x1b[31mred", "control|printable"),
    Bad("source right to left", "source", "a\u202eb", "control|printable|format"),
    Bad("signal_id of 10 kB", "signal_id", "x" * 10_000, "128"),
    Bad("signal_id with newline", "signal_id", "a\nb", "control|printable"),
    Bad("type empty", "type", "", "1|empty|required"),
    Bad("type too long", "type", "x" * 65, "64"),
    Bad("type with NUL", "type", "\x00", "control|printable"),
    Bad("tenant empty", "tenant_id", "", "lower|letter|required|1"),
    Bad("tenant upper case", "tenant_id", "ACME", "lower"),
    Bad("tenant too long", "tenant_id", "x" * 65, "64"),
    Bad("tenant of 10 kB", "tenant_id", "x" * 10_000, "64"),
    Bad("tenant with umlaut", "tenant_id", "ümlaut", "lower"),
    Bad("ts in 9999", "ts", Y9999_US, "5 min|300|ahead"),
    Bad("ts before 1970", "ts", Y1960_US, "1970|retention", "TS_OUTSIDE_RETENTION"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
async def test_r17_ac_ing_01_a_bad_value_is_refused_by_field_and_remedy(
    client: Client, ways: Sequence[Way], tenant: str, bad: Bad
) -> None:
    before = await entry_count(client)

    for way in ways if bad.json else ways[:2]:
        answer = await way.publish(a_row(tenant) | {bad.field: bad.value})

        _assert_refused(answer, bad.field, bad.codes, bad.reason, bad.remedy)
    assert await entry_count(client) == before


@pytest.mark.parametrize("ahead", [5 * MINUTE_US + 30 * 10**6, DAY_US])
async def test_a_ts_too_far_ahead_is_refused(client: Client, ways: Sequence[Way], tenant: str, ahead: int) -> None:
    before = await entry_count(client)

    for way in ways:
        answer = await way.publish(a_row(tenant, ts=await clock_us(client) + ahead))

        _assert_refused(answer, "ts", INVALID, "SIGNAL_INVALID", "5 min|300|ahead")
    assert await entry_count(client) == before


async def test_a_ts_beyond_its_retention_is_refused(client: Client, ways: Sequence[Way], tenant: str) -> None:
    before = await entry_count(client)

    for way in ways:
        answer = await way.publish(a_row(tenant, ts=await clock_us(client) - 366 * DAY_US))

        _assert_refused(answer, "ts", OUT_OF_RANGE, "TS_OUTSIDE_RETENTION", "retention|365")
    assert await entry_count(client) == before


@pytest.mark.parametrize(
    "words",
    ["'; DROP TABLE signals; --", '") DETACH DELETE n //', "${jndi:ldap://x}", "<script>", "ünïcödé ☃ 木", "x" * 128],
)
async def test_odd_but_printable_words_are_stored_as_they_are(
    client: Client, ways: Sequence[Way], tenant: str, words: str
) -> None:
    row = a_row(tenant, source=words, signal_id=words, type=words[:64], ts=await clock_us(client))

    answers = [await way.publish(row) for way in ways]

    assert not [answer for answer in answers if answer.code]
    assert len({answer.seq for answer in answers if answer.seq}) == 1


def _assert_refused(answer: Answer, field: str, codes: set[str], reason: str, remedy: str) -> None:
    assert answer.code in codes, answer
    assert not answer.reason or answer.reason == reason, answer
    named = (*answer.fields, answer.message)
    assert any(name in text for text in named for name in (field, camel(field))), answer
    assert re.search(remedy, answer.message, re.IGNORECASE), answer
    assert len(answer.message) < 2_000, "a refusal does not repeat ten thousand characters"


async def test_the_longest_words_can_be_listed_page_by_page(client: Client, tenant: str) -> None:
    # Four bytes a character: the page token holds two of them.
    longest = "\N{GRINNING FACE}" * 127
    now = await clock_us(client)
    rows = [a_row(tenant, source=f"{longest}s", signal_id=f"{longest}{n}", ts=now) for n in range(3)]
    await client.ingest.PublishSignals(batch_of(rows, tenant))

    pages = [signals async for signals in _pages(client, ListSignalsRequest(tenant_id=tenant, page_size=1))]

    assert [[signal.signal.signal_id[-1] for signal in page] for page in pages] == [["2"], ["1"], ["0"]]


async def _pages(client: Client, request: ListSignalsRequest) -> AsyncIterator[Sequence[StoredSignal]]:
    while True:
        page = await client.ingest.ListSignals(request)
        yield page.signals
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
