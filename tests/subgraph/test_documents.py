"""Which document a request means."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import pytest
from graphql import OperationType

from subgraph.documents import OPERATIONS, Documents, sha256_of
from subgraph.limits import DEEPEST, MOST_ALIASES, MOST_DIRECTIVES
from subgraph.requests import Asked, RequestRefused, read_request
from subgraph.schema import build_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

SEED_READ: Final = "query($tenantId:ID!){ tenantCoherence(tenantId:$tenantId){ score status updatedAt } }"
SEED_WRITE: Final = "mutation($input:PublishCoherenceSignalInput!){ publishCoherenceSignal(input:$input) }"
# What clients have compiled in: a change of a byte would shut them out.
READ_HASH: Final = "dba7e57dd8f332f9d5d51278fe216c60ce206fc95e1067b790cc2893376cbbea"
WRITE_HASH: Final = "f62e45c84c814268c222a14707625d5a0d94939ff450701bce5bfcaba608e7db"


def documents(*, introspection: bool = False) -> Documents:
    return Documents(build_schema().core, OPERATIONS.glob("*.graphql"), introspection=introspection)


def refused(body: Mapping[str, Any], *, free_text: bool = False) -> RequestRefused:
    with pytest.raises(RequestRefused) as found:
        documents().choose(read_request(body), free_text=free_text)
    return found.value


def by_hash(sha256: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": sha256}}


@pytest.mark.parametrize(
    ("name", "sha256", "text"),
    [("pq_tenant_coherence_v1", READ_HASH, SEED_READ), ("pq_publish_signal_v1", WRITE_HASH, SEED_WRITE)],
)
def test_ac_api_07_the_seeds_ids_stand_for_its_exact_documents(name: str, sha256: str, text: str) -> None:
    for each in (name, sha256):
        assert documents().choose(Asked(ids=frozenset({each})), free_text=False).document.text == text


@pytest.mark.parametrize("path", sorted(OPERATIONS.glob("*.graphql")), ids=lambda path: path.stem)
def test_ac_api_07_an_operation_is_found_by_its_file_and_by_the_hash_of_its_bytes(path: Any) -> None:  # noqa: ANN401 - a Path
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    known = documents()

    chosen = [
        known.choose(read_request(body), free_text=False)
        for body in (
            {"id": path.stem},
            {"documentId": path.stem},
            {"id": sha256},
            {"documentId": sha256},
            {"documentId": f"sha256:{sha256}"},
            {"extensions": by_hash(sha256)},
            {"extensions": by_hash(path.stem)},
            {"id": path.stem, "extensions": by_hash(sha256), "query": path.read_text()},
        )
    ]

    assert {each.document.text for each in chosen} == {path.read_text()}


def test_an_operation_file_holds_one_operation_and_ends_without_a_newline() -> None:
    for path in OPERATIONS.rglob("*.graphql"):
        assert not path.read_bytes().endswith(b"\n"), f"{path.name}: its hash is of its exact bytes"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"id": "pq_unknown_v9"}, "PERSISTED_QUERY_NOT_IN_LIST"),
        ({"extensions": by_hash("0" * 64)}, "PERSISTED_QUERY_NOT_IN_LIST"),
        ({"extensions": by_hash("0" * 64), "query": "{ __typename }"}, "PERSISTED_QUERY_NOT_IN_LIST"),
        ({"query": "{ __typename }"}, "PERSISTED_QUERY_ID_REQUIRED"),
        ({"query": SEED_READ}, "PERSISTED_QUERY_ID_REQUIRED"),
        ({"id": "pq_tenant_coherence_v1", "query": "{ __typename }"}, "CANNOT_SEND_PQ_ID_AND_BODY"),
        ({"id": "pq_tenant_coherence_v1", "documentId": "pq_tenant_v1"}, "CANNOT_SEND_PQ_ID_AND_BODY"),
    ],
)
def test_ac_api_07_free_text_and_unknown_ids_are_refused_with_their_code(body: Mapping[str, Any], code: str) -> None:
    found = refused(body)

    assert (found.code, found.malformed) == (code, False)
    assert found.payload()["error"] == "Unknown query"


@pytest.mark.parametrize("body", [{}, {"id": 7}, {"query": []}, {"id": "x", "variables": []}, {"extensions": "x"}])
def test_what_is_no_graphql_request_is_malformed(body: Mapping[str, Any]) -> None:
    found = refused(body)

    assert (found.code, found.malformed) == ("BAD_REQUEST", True)


def test_while_free_text_is_allowed_a_text_or_its_hash_with_the_text_is_taken() -> None:
    text = "{ tenantCoherence(tenantId: 1) { score } }"

    for body in ({"query": text}, {"query": text, "extensions": by_hash(sha256_of(text))}):
        chosen = documents().choose(read_request(body), free_text=True)
        assert (chosen.kind, chosen.document.text) == (OperationType.QUERY, text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{ tenantCoherence", "GRAPHQL_PARSE_FAILED"),
        ("{" * 3000, "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ __schema { types { name } } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { __typename } query B { __typename }", "OPERATION_RESOLUTION_FAILURE"),
        ("{ a: b } fragment F on Tenant { ...F }", "GRAPHQL_VALIDATION_FAILED"),
    ],
)
def test_free_text_that_does_not_parse_or_validate_is_refused(text: str, code: str) -> None:
    assert refused({"query": text}, free_text=True).code == code


def test_free_text_within_the_limits_only() -> None:
    deep = "{ tenant(tenantId: 1) " + "{ coherence { tenant " * DEEPEST + "{ tenantId }" + "} }" * DEEPEST + " }"
    aliases = "{" + " ".join(f"a{n}: __typename" for n in range(MOST_ALIASES + 1)) + "}"
    directives = "{ __typename " + " ".join(f"@d{n}" for n in range(MOST_DIRECTIVES + 1)) + " }"
    # Each fragment spreads the next one twice: 2^40 selections.
    doubling = "{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))

    for text in (deep, aliases, directives, doubling):
        assert refused({"query": text}, free_text=True).code == "GRAPHQL_VALIDATION_FAILED"


def test_no_name_is_suggested_and_nothing_is_introspected_unless_developers_may() -> None:
    def errors(known: Documents, text: str) -> str:
        with pytest.raises(RequestRefused) as found:
            known.choose(Asked(query=text), free_text=True)
        return str(found.value.payload())

    assert "Did you mean" not in errors(documents(), "{ tenantCoherenc }")
    assert "Did you mean" in errors(documents(introspection=True), "{ tenantCoherenc }")
    introspecting = Asked(query="{ __schema { queryType { name } } }")
    assert documents(introspection=True).choose(introspecting, free_text=True).kind is OperationType.QUERY
