"""What callers are told about the signals they pushed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from coherence.v1.score_pb2 import Status
from subgraph.instants import format_instant
from subgraph.problems import ItemError, Problem, problem
from subgraph.publishing import DUPLICATE, REPLACED, STORED, Accepted, Report, Verdict
from subgraph.refusals import http_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coherence.v1.score_pb2 import Score
    from coherence_grpc.client import Refusal

SHOWN_ERRORS: Final = 1000
# When none of several signals was taken: what can be tried again comes first, then what is common to all.
_TRY_AGAIN: Final = (503, 504, 507, 429)
# Header and query parameters have no pointer into the body.
_OUTSIDE: Final = frozenset({"request_id", "tags", "backfill", "validate_only"})


class Key(msgspec.Struct):
    """What identifies the stored signal."""

    tenant_id: str
    source: str
    signal_id: str
    ts: str


class PushResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one signal: an outcome (STORED, REPLACED or DUPLICATE) with its entry, or an error."""

    index: int
    outcome: str | None = None
    seq: int | None = None
    provenance_id: str | None = None
    key: Key | None = None
    error: ItemError | None = None


class PushScore(msgspec.Struct, kw_only=True):
    """A score that has seen the signals; none with the status UNKNOWN."""

    score: float | None
    status: str
    signal_count: int
    as_of_seq: int
    window_end: str


class PushReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of the signals, one result each, in the order they came in.

    `revision` stands for the state after the write when all signals are of one tenant, `revisions` by tenant otherwise.
    `dry_run`: nothing was stored. With durability=scored, `scores` are by tenant, and `scores_pending` are the tenants
    whose score is still to see their signals.
    """

    results: list[PushResult]
    # No defaults: counts are shown also when they are 0.
    stored_count: int
    replaced_count: int
    duplicate_count: int
    refused_count: int
    revision: str | None = None
    revisions: dict[str, str] | None = None
    dry_run: bool = False
    scores: dict[str, PushScore] | None = None
    scores_pending: list[str] | None = None


def report_of(report: Report, *, listed: bool, dry_run: bool) -> PushReport:
    """The report of a request of which at least one signal was taken."""
    tokens = report.revisions
    return PushReport(
        results=[_result(index, report.verdicts[index], listed=listed) for index in sorted(report.verdicts)],
        stored_count=report.count(STORED),
        replaced_count=report.count(REPLACED),
        duplicate_count=report.count(DUPLICATE),
        refused_count=len(report.refusals),
        revision=next(iter(tokens.values())) if len(tokens) == 1 else None,
        revisions=dict(tokens) if len(tokens) > 1 else None,
        dry_run=dry_run,
        scores={tenant_id: _score(score) for tenant_id, score in sorted(report.scores.items())} or None,
        scores_pending=sorted(report.pending) or None,
    )


def _score(score: Score) -> PushScore:
    return PushScore(
        score=score.score if score.HasField("score") else None,
        status=Status.Name(score.status).removeprefix("STATUS_"),
        signal_count=score.signal_count,
        as_of_seq=score.as_of_seq,
        window_end=format_instant(score.window_end_time),
    )


def problem_of(refusals: Mapping[int, Refusal], *, listed: bool) -> Problem:
    """The problem of a request of which no signal was taken."""
    status = _common_status(http_status(refusal) for refusal in refusals.values())
    errors = [item_error(refusals[index], index, listed=listed) for index in sorted(refusals)[:SHOWN_ERRORS]]
    word = "signal was" if len(refusals) == 1 else f"of the {len(refusals)} signals was"
    return problem(status, "signals-refused", f"no {word} stored: {errors[0].detail}", errors)


def retry_after(refusals: Mapping[int, Refusal]) -> Mapping[str, str]:
    """The Retry-After header, where waiting helps: whole seconds, rounded up."""
    waits = [refusal.retry_after_s for refusal in refusals.values() if refusal.retry_after_s is not None]
    return {"retry-after": str(max(1, math.ceil(max(waits))))} if waits else {}


def item_error(refusal: Refusal, index: int | None, *, listed: bool) -> ItemError:
    """The refusal of one signal; `listed`: it stood in an array or on a line."""
    place = f"/{index}" if listed else ""
    field = refusal.fields[0].path if refusal.fields else ""
    in_body = field and field.partition(".")[0] not in _OUTSIDE
    pointer = f"{place}/{_escaped(field)}" if in_body else place
    return ItemError(
        index=index,
        code=refusal.code,
        reason=refusal.reason or None,
        detail=refusal.message.replace("request_id ", "Idempotency-Key ", 1),
        pointer=pointer,
        retry_after_ms=None if refusal.retry_after_s is None else round(refusal.retry_after_s * 1000),
    )


def _result(index: int, verdict: Verdict, *, listed: bool) -> PushResult:
    if not isinstance(verdict, Accepted):
        error = item_error(verdict, index, listed=listed)
        error.index = None
        return PushResult(index=index, error=error)
    key = verdict.key
    return PushResult(
        index=index,
        outcome=verdict.outcome,
        seq=verdict.seq,
        provenance_id=verdict.provenance_id,
        key=Key(key.tenant_id, key.source, key.signal_id, format_instant(key.ts)),
    )


def _common_status(statuses: Iterable[int]) -> int:
    found = set(statuses)
    again = next((status for status in _TRY_AGAIN if status in found), None)
    return again or (found.pop() if len(found) == 1 else 400)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
