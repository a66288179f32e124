"""Every query on Neo4j goes by the index that it declares, on an empty graph and on one that holds something."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from coherence_grpc.adapters.neo4j import append, heads, notes, own, parts, prune, reads, records, taking, windows
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, TENANT, a_provenance, a_score, a_write, an_item
from tests.conformance.asking import append as append_writes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]

KEY: Final = "Signal(tenant_id, source, signal_id, ts)"
SHORT: Final = "Signal(tenant_id, ts)"
WINDOW: Final = "Signal(tenant_id, ts, seq, value_q, weight_q)"
ENTRY: Final = "Entry(tenant_id, seq)"
TENANT_ID: Final = "Tenant(tenant_id)"
HEAD_TIME: Final = "Tenant(head_time)"
RECORD: Final = "Provenance(provenance_id)"
REQUEST: Final = "Provenance(tenant_id, request_id)"
SCORE: Final = "CoherenceScore(tenant_id)"
META: Final = "Meta(name)"
SUPERSEDED_SINCE: Final = "Superseded(tenant_id, superseded_seq)"
SUPERSEDED_KEY: Final = "Superseded(tenant_id, source, signal_id, ts)"
POLICY: Final = "Policy(tenant_id, seq)"

INDEX: Final = re.compile(r"(?:UNIQUE|INDEX) \w+:(\w+\([\w, ]+\))")
BEGINS: Final = re.compile(r"\b(MATCH|MERGE) \(")
PARAMETER: Final = re.compile(r"\$(\w+)")
SCANS: Final = {
    *("AllNodesScan", "NodeByLabelScan", "DirectedAllRelationshipsScan", "UndirectedAllRelationshipsScan"),
    # A whole index for each key is worse than none.
    "NodeIndexScan",
}


class Hot(NamedTuple):
    """A query and the indexes it goes by; `sorts` names the operator that orders what an index left unordered.

    `scans` names the operator that walks a whole index: from its end, as far as the first one.
    """

    query: str
    indexes: set[str]
    sorts: str = ""
    scans: str = ""


QUERIES: Final[Mapping[str, Hot]] = {
    "append.lock": Hot(append.LOCK, {META, TENANT_ID, REQUEST}),
    "append.find_signals": Hot(append.FIND_SIGNALS, {KEY}),
    "append.find_entries": Hot(append.FIND_ENTRIES, {ENTRY}),
    "append.extend": Hot(append.EXTEND, {TENANT_ID}),
    "append.announce": Hot(append.ANNOUNCE, {TENANT_ID}),
    "append.supersede": Hot(append.SUPERSEDE, {ENTRY}),
    "append.replace": Hot(append.REPLACE, {TENANT_ID}),
    "own.add": Hot(own.ADD, {TENANT_ID}),
    "own.policies": Hot(own.POLICIES, {POLICY}),
    "taking.taken": Hot(taking.TAKEN, {TENANT_ID}),
    "taking.superseded": Hot(taking.SUPERSEDED, {SUPERSEDED_SINCE, RECORD}),
    "heads.heads": Hot(heads.HEADS, {TENANT_ID, ENTRY}),
    "heads.hold": Hot(heads.HOLD, {TENANT_ID}),
    "heads.moved": Hot(heads.MOVED, {HEAD_TIME, ENTRY}),
    "heads.newest": Hot(heads.NEWEST, {HEAD_TIME}, scans="NodeIndexScan"),
    "windows.columns": Hot(windows.COLUMNS, {WINDOW}),
    "windows.grouped": Hot(windows.GROUPED, {WINDOW}),
    "windows.sums": Hot(windows.SUMS, {WINDOW}),
    "windows.next": Hot(windows.NEXT, {WINDOW}),
    "windows.before": Hot(windows.BEFORE, {WINDOW}),
    "windows.after": Hot(windows.AFTER, {WINDOW}),
    "windows.added": Hot(windows.ADDED, {ENTRY}),
    "parts.parts": Hot(parts.PARTS, {WINDOW}),
    "parts.numbered": Hot(parts.NUMBERED, {ENTRY, RECORD}, sorts="Sort"),
    "reads.tail": Hot(reads.TAIL, {TENANT_ID, ENTRY, RECORD}),
    "reads.recorded": Hot(reads.RECORDED, {ENTRY}),
    "reads.first_readable": Hot(reads.FIRST_READABLE, {TENANT_ID, ENTRY}),
    "reads.signal": Hot(reads.SIGNAL, {KEY, RECORD}),
    # Only what falls on one instant is sorted.
    "reads.listing": Hot(reads.LISTING, {SHORT, RECORD}, sorts="PartialTop"),
    "reads.provenance": Hot(reads.PROVENANCE, {RECORD}),
    "reads.hash_at": Hot(reads.HASH_AT, {ENTRY}),
    "reads.retained": Hot(reads.RETAINED, {TENANT_ID, SHORT}),
    "records.ledger": Hot(records.LEDGER, {ENTRY, RECORD}),
    "records.stored_by": Hot(records.STORED_BY, {RECORD}),
    "records.hash_before": Hot(records.HASH_BEFORE, {ENTRY}),
    "prune.count": Hot(prune.COUNT, {SHORT}),
    "prune.find": Hot(prune.FIND, {SHORT}),
    "prune.announce": Hot(prune.ANNOUNCE, {TENANT_ID}),
    "prune.still_there": Hot(prune.STILL_THERE, {ENTRY, SUPERSEDED_KEY}),
    "prune.erase": Hot(prune.ERASE, {ENTRY}),
    "prune.remember": Hot(prune.REMEMBER, {TENANT_ID, ENTRY}),
    "notes.keep": Hot(notes.KEEP, {TENANT_ID, SCORE}),
}
# Of what is asked at a start or by an operator: every tenant is looked at.
COLD: Final = {"heads.tenants", "reads.retained_all", "notes.published"}


def values(query: str, rows: int) -> dict[str, Any]:
    """Parameters of the types that the query takes, lists of so many rows: the planner looks at their length."""
    kinds: dict[str, Any] = dict.fromkeys(PARAMETER.findall(query), 1)
    for names, value in (
        ("tenants logs scores", [{"tenant_id": "a", "request_ids": ["a"], "writes": []}] * rows),
        ("keys", [["a", "a", "a", 1]] * rows),
        ("entries", [["a", 1]] * rows),
        ("seqs", [1] * rows),
        ("tenant_ids", ["a"] * rows),
        ("record ends shards", {}),
        ("superseded", [["a", 1, 2]] * rows),
        ("lock tenant_id source signal_id provenance_id", "a"),
        ("before sources types", None),
    ):
        kinds |= dict.fromkeys(kinds.keys() & set(names.split()), value)
    return kinds


def test_every_query_is_declared() -> None:
    modules = (append, own, heads, taking, windows, parts, reads, records, prune, notes)
    texts = {
        f"{module.__name__.rpartition('.')[2]}.{name.lower()}"
        for module in modules
        for name, text in vars(module).items()
        if name.isupper()
        and not name.startswith("_")
        and isinstance(text, str)
        and re.search(r"\b(MATCH|MERGE) \(", text)
    }

    # Pieces of queries are no queries.
    assert texts - {"taking.signal_columns", "parts.signal_columns", "reads.columns"} == QUERIES.keys() | COLD


@pytest.mark.parametrize("filled", ["empty", "just filled", "filled"])
async def test_ac_data_01_every_hot_query_goes_by_its_indexes(
    migrated_graph: Neo4jHome, clock: ManualClock, filled: str
) -> None:
    if filled != "empty":
        async with migrated_graph.signals(clock) as signals:
            for tenant_id in (TENANT, "b", "c"):
                items = [an_item(ts=NOON + index) for index in range(700)]
                await append_writes(signals, a_write(*items, tenant_id=tenant_id))
                signals.note_published(a_score(tenant_id=tenant_id))
            await signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=1, dry_run=False)
    if filled == "filled":
        await migrated_graph.look("CALL db.prepareForReplanning()")

    wrong = {}
    for (name, hot), rows in product(QUERIES.items(), (1, 11, 1000)):
        operators = await migrated_graph.plan(hot.query, values(hot.query, rows))
        names = {operator for operator, _ in operators}
        indexes = {index for _, details in operators for index in INDEX.findall(details)}
        sorts = {operator for operator in names if "Sort" in operator or "Top" in operator}
        if indexes != hot.indexes or names & SCANS - {hot.scans} or sorts - {hot.sorts}:
            wrong[name, rows] = sorted(names), sorted(indexes)

    assert wrong == {}
