"""Publishing signals of any mix of tenants: one PublishSignals each, the results in the order they came in."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from coherence.v1.ingest_pb2 import (
    DURABILITY_SCORED,
    DURABILITY_STORED,
    ON_CONFLICT_REJECT,
    ON_CONFLICT_REPLACE,
    OUTCOME_DUPLICATE,
    OUTCOME_REPLACED,
    OUTCOME_STORED,
    PublishResult,
    PublishSignalsRequest,
)
from coherence.v1.signal_pb2 import SignalKey
from coherence_grpc.client import Refusal, refusal_of_status
from subgraph.refusals import Refused, presentable, renamed
from subgraph.tags import DEFAULT_TAGS, TagNumbers, tags_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence.v1.ingest_pb2 import Outcome
    from coherence.v1.score_pb2 import Score
    from coherence.v1.signal_pb2 import Signal
    from subgraph.backbone import Backbone, Caller

MOST_SIGNALS: Final = 1000
# Enough to keep the backbone's group commit busy, few enough to leave room for other callers.
CALLS_AT_ONCE: Final = 16
STORED: Final = "STORED"
DUPLICATE: Final = "DUPLICATE"
REPLACED: Final = "REPLACED"
_OUTCOMES: Final[Mapping[Outcome.ValueType, str]] = {
    OUTCOME_STORED: STORED,
    OUTCOME_DUPLICATE: DUPLICATE,
    OUTCOME_REPLACED: REPLACED,
}
_ITEM: Final = re.compile(r"signals\[(\d+)\]\.?")


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which one request its signals are published; signals of other terms go in another request.

    `replace`: a signal takes the place of what is stored under its key. `scored`: the answer is to have the score.
    """

    request_id: str = ""
    tags: TagNumbers = DEFAULT_TAGS
    backfill: bool = False
    validate_only: bool = False
    replace: bool = False
    scored: bool = False


class Submitted(NamedTuple):
    """A signal with its place in the caller's request."""

    place: int
    signal: Signal
    terms: Terms


class Accepted(NamedTuple):
    """A signal that is stored: by this request (STORED, or REPLACED) or before (DUPLICATE)."""

    outcome: str
    seq: int
    provenance_id: str
    key: SignalKey


Verdict: TypeAlias = Accepted | Refusal


@dataclass(slots=True)
class Report:
    """What became of each signal, by index, and the revisions of the tenants written to.

    Where scores were waited for, those that have seen the signals, and the tenants whose score has yet to.
    """

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    def count(self, outcome: str) -> int:
        """How many had this outcome."""
        return sum(isinstance(verdict, Accepted) and verdict.outcome == outcome for verdict in self.verdicts.values())

    @property
    def refusals(self) -> Mapping[int, Refusal]:
        """The refused ones."""
        return {index: verdict for index, verdict in self.verdicts.items() if isinstance(verdict, Refusal)}


async def publish(backbone: Backbone, caller: Caller, signals: Sequence[Submitted]) -> Report:
    """Publish the signals, grouped by tenant and terms; one refused tenant leaves the others alone."""
    groups: dict[tuple[str, Terms], list[Submitted]] = defaultdict(list)
    for submitted in signals:
        groups[submitted.signal.tenant_id, submitted.terms].append(submitted)
    report = Report()
    room = asyncio.Semaphore(CALLS_AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        for (tenant_id, terms), group in groups.items():
            tasks.create_task(_publish_group(backbone, caller, tenant_id, terms, group, report, room))
    return report


async def _publish_group(
    backbone: Backbone,
    caller: Caller,
    tenant_id: str,
    terms: Terms,
    group: Sequence[Submitted],
    report: Report,
    room: asyncio.Semaphore,
) -> None:
    request = PublishSignalsRequest(
        tenant_id=tenant_id,
        signals=[submitted.signal for submitted in group],
        request_id=terms.request_id,
        tags=tags_message(terms.tags),
        backfill=terms.backfill,
        validate_only=terms.validate_only,
        on_conflict=ON_CONFLICT_REPLACE if terms.replace else ON_CONFLICT_REJECT,
        durability=DURABILITY_SCORED if terms.scored else DURABILITY_STORED,
    )
    try:
        async with room:
            response = await backbone.publish_signals(request, caller)
    except Refused as refused:
        for submitted in group:
            report.verdicts[submitted.place] = refused.refusal
        return
    if response.revision.token:
        report.revisions[tenant_id] = response.revision.token
    if response.HasField("score"):
        report.scores[tenant_id] = response.score
    elif response.score_pending:
        report.pending.add(tenant_id)
    for submitted, result in zip(group, response.results, strict=True):
        report.verdicts[submitted.place] = _verdict(submitted.signal, result)


def _verdict(signal: Signal, result: PublishResult) -> Verdict:
    if result.HasField("error"):
        return _of_its_item(presentable(refusal_of_status(result.error)))
    key = result.key
    if not result.HasField("key"):
        # The backbone repeats only keys that it completed.
        key = SignalKey(tenant_id=signal.tenant_id, source=signal.source, signal_id=signal.signal_id, ts=signal.ts)
    return Accepted(_OUTCOMES[result.outcome], result.seq, result.provenance_id, key)


def _of_its_item(refusal: Refusal) -> Refusal:
    """The refusal with paths that start at the signal, not at the batch that we made."""
    return renamed(refusal, lambda path: _ITEM.sub("", path, count=1))
