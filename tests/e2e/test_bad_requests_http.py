"""R17: what is malformed as a whole, over HTTP push."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.e2e.reading import all_signals, entry_count
from tests.e2e.rows import a_row, json_of
from tests.e2e.ways import PUSH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from coherence_grpc.client import Client

pytestmark = pytest.mark.anyio

JSON: Final = {"content-type": "application/json"}
NDJSON: Final = {"content-type": "application/x-ndjson"}
# A good signal but for what stands in for %s.
BODY: Final = '{"tenant_id":"acme","source":"ci","type":"build","signal_id":"s","value":%s}'
DEEP: Final = 100_000


class BadBody(NamedTuple):
    """A body that can't be taken, and what the answer must name."""

    name: str
    body: bytes
    names: str


BAD_BODIES: Final = [
    BadBody("empty", b"", "body"),
    BadBody("not JSON", b"value=0.5", "JSON"),
    BadBody("cut off", BODY.encode()[:30], "JSON"),
    BadBody("not UTF-8", (BODY % '"\xff"').encode("latin-1"), "UTF-8"),
    BadBody("a word", b'"signal"', "object"),
    BadBody("null", b"null", "object"),
    BadBody("empty array", b"[]", "1"),
    BadBody("array of numbers", b"[1]", "object"),
    BadBody("NaN", (BODY % "NaN").encode(), "value|NaN"),
    BadBody("Infinity", (BODY % "-Infinity").encode(), "value|Infinity"),
    BadBody("beyond double", (BODY % "1e999").encode(), "value"),
    BadBody("number as text", (BODY % '"0.5"').encode(), "value"),
    BadBody("number as true", (BODY % "true").encode(), "value"),
    BadBody("number as null", (BODY % "null").encode(), "value"),
    BadBody("number as array", (BODY % "[0.5]").encode(), "value"),
    BadBody("unknown field", (BODY % '0.5,"valeu":1').encode(), "valeu"),
    BadBody("camel case field", (BODY % '0.5,"signalId":"s"').encode(), "signalId"),
    BadBody("duplicate key", (BODY % '0.5,"value":0.6').encode(), "value"),
    BadBody("source as number", (BODY % '0.5,"source":7').encode().replace(b'"source":"ci",', b""), "source"),
    BadBody("naive ts", (BODY % '0.5,"ts":"2013-02-08T00:00:00"').encode(), "ts"),
    BadBody("ts as number", (BODY % '0.5,"ts":1360281600').encode(), "ts"),
    BadBody("ts on 30 February", (BODY % '0.5,"ts":"2013-02-30T00:00:00Z"').encode(), "ts"),
    BadBody("ts in words", (BODY % '0.5,"ts":"yesterday"').encode(), "ts"),
    BadBody("tags in the body", (BODY % '0.5,"tags":{"purpose":"fun"}').encode(), "tags"),
    BadBody("lone surrogate", (BODY % '0.5,"source":"\\ud800"').encode().replace(b'"source":"ci",', b""), "surrogate"),
    BadBody("100k nested arrays", b"[" * DEEP + b"]" * DEEP, "nested"),
    BadBody("100k nested arrays in a field", (BODY % ("[" * DEEP + "]" * DEEP)).encode(), "nested"),
    BadBody("100k nested objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested"),
]


@pytest.mark.parametrize("bad", BAD_BODIES, ids=lambda bad: bad.name)
async def test_r17_ac_ing_01_a_bad_body_is_a_problem_with_a_pointer(
    client: Client, http: httpx.AsyncClient, bad: BadBody
) -> None:
    before = await entry_count(client)

    answer = await http.post(PUSH, content=bad.body, headers=JSON)

    _assert_problem(answer, 400)
    assert any(name in answer.text for name in bad.names.split("|")), answer.text
    assert len(answer.content) < 10_000
    assert await entry_count(client) == before


async def test_r17_one_bad_item_is_named_by_pointer_and_the_others_are_stored(
    client: Client, http: httpx.AsyncClient, tenant: str
) -> None:
    rows = [json_of(a_row(tenant)) for _ in range(5)]
    rows[3]["value"] = "0.5"
    rows[4]["valeu"] = 1

    answer = await http.post(PUSH, json=rows)

    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [result.get("outcome") for result in results[:3]] == ["STORED"] * 3
    assert "/3/value" in json.dumps(results[3])
    assert "/4/valeu" in json.dumps(results[4])
    assert len(await all_signals(client, tenant)) == 3


async def test_r17_a_bad_line_is_named_and_the_others_are_stored(
    client: Client, http: httpx.AsyncClient, tenant: str
) -> None:
    lines = [json.dumps(json_of(a_row(tenant))) for _ in range(4)]
    lines[1] = '{"tenant_id": '

    answer = await http.post(PUSH, content="\n".join(lines), headers=NDJSON)

    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [result.get("outcome") for result in results] == ["STORED", None, "STORED", "STORED"]
    assert "/1" in json.dumps(results[1])
    assert len(await all_signals(client, tenant)) == 3


async def test_r17_when_no_item_is_good_the_whole_is_a_problem_that_names_each(
    client: Client, http: httpx.AsyncClient, tenant: str
) -> None:
    rows = [json_of(a_row(tenant, value=value)) for value in (2.0, -1.0)]

    answer = await http.post(PUSH, json=rows)

    _assert_problem(answer, 400)
    pointers = [problem["pointer"] for problem in answer.json()["errors"]]
    assert {pointer.lstrip("#") for pointer in pointers} == {"/0/value", "/1/value"}
    assert not await all_signals(client, tenant)


async def test_r17_an_array_of_1001_is_refused_whole(client: Client, http: httpx.AsyncClient, tenant: str) -> None:
    answer = await http.post(PUSH, json=[json_of(a_row(tenant)) for _ in range(1001)])

    assert answer.status_code in {400, 413}
    _assert_problem(answer, answer.status_code)
    assert "1000" in answer.text
    assert not await all_signals(client, tenant)


@pytest.mark.parametrize("chunked", [False, True])
async def test_r17_a_body_of_5_mb_is_too_large(client: Client, http: httpx.AsyncClient, *, chunked: bool) -> None:
    before = await entry_count(client)
    body = (BODY % f'0.5,"source":"{"x" * 5_000_000}"').encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65_536):
            yield body[at : at + 65_536]

    answer = await http.post(PUSH, content=pieces() if chunked else body, headers=JSON)

    _assert_problem(answer, 413)
    assert await entry_count(client) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_r17_another_content_type_is_refused(client: Client, http: httpx.AsyncClient, kind: str) -> None:
    before = await entry_count(client)

    answer = await http.post(PUSH, content=BODY % "0.5", headers={"content-type": kind})

    _assert_problem(answer, 415)
    assert "application/json" in answer.text
    assert await entry_count(client) == before


async def test_r17_another_method_is_refused(http: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await http.request(method, PUSH)
        assert answer.status_code == 405


async def test_r17_an_idempotency_key_of_10_kb_is_refused(client: Client, http: httpx.AsyncClient, tenant: str) -> None:
    answer = await http.post(PUSH, json=json_of(a_row(tenant)), headers={"idempotency-key": "k" * 10_000})

    _assert_problem(answer, 400)
    assert "idempotency-key" in answer.text.lower()
    assert not await all_signals(client, tenant)


@pytest.mark.parametrize(
    "query", ["purpose=fun", "retention=forever", "purpoes=demo", "validate=maybe", "a=1&a=2", "%ff=1"]
)
async def test_r17_a_bad_parameter_is_refused_by_name(
    client: Client, http: httpx.AsyncClient, tenant: str, query: str
) -> None:
    answer = await http.post(f"{PUSH}?{query}", json=json_of(a_row(tenant)))

    _assert_problem(answer, 400)
    assert query.partition("=")[0] in answer.text or "%" in query
    assert not await all_signals(client, tenant)


async def test_ac_ing_01_a_dry_run_checks_and_stores_nothing(
    client: Client, http: httpx.AsyncClient, tenant: str
) -> None:
    rows = [json_of(a_row(tenant)), json_of(a_row(tenant, value=2.0))]

    answer = await http.post(PUSH, params={"validate": "1"}, json=rows)

    assert answer.status_code < 300
    assert "/1/value" in json.dumps(answer.json()["results"][1])
    assert not await all_signals(client, tenant)


def _assert_problem(answer: httpx.Response, status: int) -> None:
    """RFC 9457, and no sign of our insides."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
