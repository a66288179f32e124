"""A year of what was shown: how long it takes to list, and what a tenant's day of it takes on disk."""

from __future__ import annotations

from contextlib import closing
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

import apsw
from google.protobuf.duration_pb2 import Duration

from bench.load import connected
from bench.plan import past_us, published
from bench.report import Figure, Target, progress
from bench.requests import BATCHES, tenant
from bench.spread import percentile, spread
from bench.worker import working
from coherence.v1.ingest_pb2 import PublishSignalsRequest
from coherence.v1.score_pb2 import (
    GetScoreRequest,
    GetScoreResponse,
    ListScoreHistoryRequest,
    ListScoreHistoryResponse,
)
from coherence.v1.signal_pb2 import Signal
from coherence_grpc.convert.instants import timestamp
from coherence_grpc.model import DAY, SECOND
from tests.serving import eventually, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bench.load import Call
    from bench.plan import Plan

GET_SCORE: Final = "/coherence.v1.ScoreService/GetScore"
HISTORY: Final = "/coherence.v1.ScoreService/ListScoreHistory"
TENANT: Final = tenant(0)
MINUTE: Final = 60 * SECOND
MINUTES_A_DAY: Final = 1_440
MIB: Final = 1024 * 1024
# As often as the worst of ten big carriers changed in a year of flights.
CHANGES_A_YEAR: Final = 341
# 50 requests a second of 20 signals.
RATE: Final = 50
SIZE: Final = 20
PER_SECOND: Final = RATE * SIZE
RUN_S: Final = 120.0
STOP_S: Final = 30.0
YEAR: Final = "ListScoreHistory RECORDED, a year by day, p95"
PAGE: Final = "ListScoreHistory RECORDED, page of 1000 of a year, p95"
ROWS: Final = f"Published rows of a tenant at {PER_SECOND:,} signals/s"
RAW: Final = f"Score history, first 7 days: a tenant-day at {PER_SECOND:,} signals/s"
THINNED: Final = "Score history, thinned: a tenant-day"
LOG: Final = f"Log: a tenant-day at {PER_SECOND:,} signals/s"
FIGURES: Final = (YEAR, PAGE, ROWS, RAW, THINNED, LOG)

# A row a minute, as thinning leaves them, up to the one that is there; the status changes now and then.
_FILL: Final = """
INSERT INTO score_history (tenant_id, score_ppm, status, signal_count, weight_q, window_start, window_end, data_time,
    valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at, source, policy_etag, backfill,
    status_changed, held_status, held_since, held_pending)
SELECT tenant_id, CASE WHEN n / :block % 2 THEN 400000 ELSE 800000 END + n % 1000,
    CASE WHEN n / :block % 2 THEN 'CRITICAL' ELSE 'HEALTHY' END, signal_count, weight_q,
    window_start - (:rows - n) * :minute, window_end - (:rows - n) * :minute, data_time - (:rows - n) * :minute,
    valid_until - (:rows - n) * :minute, as_of_seq, head_hash, signal_epoch, score_epoch, n, computed_at, source,
    policy_etag, backfill, n % :block = 0, CASE WHEN n / :block % 2 THEN 'CRITICAL' ELSE 'HEALTHY' END,
    window_end - (:rows - n % :block) * :minute, NULL
FROM scores, (WITH RECURSIVE minutes (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM minutes WHERE n < :rows - 1)
    SELECT n FROM minutes)
"""
_MOVE: Final = "UPDATE score_history SET version = :rows; UPDATE scores SET version = :rows"
_BYTES: Final = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE ?"
_SHOWN: Final = "SELECT count(*), min(window_end), max(window_end) FROM score_history"


async def recorded(plan: Plan) -> AsyncIterator[Figure]:
    """A year of one tenant on the embedded store, then a minute of a tenant that is told 1,000 signals a second."""
    days = plan.either(365, 7)
    directory = plan.fresh("recorded")
    row_bytes = await _filled(directory, days * MINUTES_A_DAY)
    async with serving(directory, http=False) as service, connected(service.grpc) as channel:
        call: Call = channel.unary_unary(HISTORY)
        yield await _listed(YEAR, call, plan, days, Duration(seconds=86_400))
        yield await _listed(PAGE, call, plan, days, None)
    seconds = plan.either(60, 3)
    rows_a_second, signal_bytes = await _told(plan.fresh("told"), seconds)
    yield Figure(ROWS, value=rows_a_second, unit="rows/s", targets=[Target(10.5, at_most=True)])
    raw = rows_a_second * 86_400 * row_bytes / MIB
    yield Figure(RAW, value=raw, unit="MiB", details={"bytes_a_row": row_bytes})
    thinned = MINUTES_A_DAY * row_bytes / MIB
    yield Figure(THINNED, value=thinned, unit="MiB", details={"bytes_a_row": row_bytes, "rows": MINUTES_A_DAY})
    log = PER_SECOND * 86_400 * signal_bytes / MIB
    yield Figure(LOG, value=log, unit="MiB", details={"bytes_a_signal": signal_bytes})


async def _filled(directory: Path, rows: int) -> float:
    """A tenant that has been published once a minute; the bytes that a row takes, with its part of the indexes."""
    async with serving(directory, http=False, drain=True) as service:
        await published(service.grpc, size=10, count=1, callers=1, tenants=1)
        async with connected(service.grpc) as channel:
            get: Call = channel.unary_unary(GET_SCORE)

            async def version() -> int:
                reply = await get(GetScoreRequest(tenant_id=TENANT).SerializeToString())
                return GetScoreResponse.FromString(reply).score.version

            await eventually(version, within_s=STOP_S)
    with closing(apsw.Connection(str(directory / "scores.db"))) as file, file:
        named = {"rows": rows, "minute": MINUTE, "block": 365 * MINUTES_A_DAY // CHANGES_A_YEAR}
        file.execute(_MOVE, named)
        file.execute(_FILL, named)
        stored = file.execute(_BYTES, ("score_history%",)).get
    progress(f"  {rows:,} rows of {stored / rows:.0f} bytes")
    return float(stored / rows)


async def _listed(name: str, call: Call, plan: Plan, days: int, step: Duration | None) -> Figure:
    took_ms, answer = list[float](), ListScoreHistoryResponse()
    end = await _end(call)
    request = ListScoreHistoryRequest(
        tenant_id=TENANT, start_time=timestamp(end - days * DAY), end_time=timestamp(end), step=step, page_size=1000
    )
    for _ in range(plan.either(50, 5)):
        begun = perf_counter()
        answer = ListScoreHistoryResponse.FromString(await call(request.SerializeToString()))
        took_ms.append((perf_counter() - begun) * 1000)
    progress(f"  {name}: {spread(took_ms)}")
    return Figure(
        name,
        value=percentile(sorted(took_ms), 0.95),
        unit="ms",
        targets=[Target(100, at_most=True)],
        samples={"calls": took_ms},
        details={
            "points": len(answer.points),
            "spans": len(answer.spans),
            "status_changes": answer.status_change_count,
            "median_ms": median(took_ms),
        },
    )


async def _end(call: Call) -> int:
    """Now, as the server has it."""
    request = ListScoreHistoryRequest(tenant_id=TENANT, page_size=1)
    answer = ListScoreHistoryResponse.FromString(await call(request.SerializeToString()))
    return answer.spans[-1].end_time.ToMicroseconds()


def _anchor() -> PublishSignalsRequest:
    """Signals whose weight keeps the score off the thresholds: a change of status would be published at once."""
    heavy = [Signal(source="anchor", type="anchor", value=0.65, weight=1000) for _ in range(1000)]
    return PublishSignalsRequest(tenant_id=TENANT, signals=heavy)


async def _told(directory: Path, seconds: int) -> tuple[float, float]:
    """Rows published a second, and bytes of the log a signal, of a tenant that is told so much."""
    async with serving(directory, http=False, drain=True) as service:
        count = RATE * (seconds + 1)
        job = {"address": service.grpc, "method": BATCHES, "rate": RATE, "seconds": seconds, "warm_up_s": 1}
        job |= {"size": SIZE, "count": count, "first": 0, "tenants": 1, "start_us": past_us(count * SIZE)}
        async with connected(service.grpc) as channel:
            publish: Call = channel.unary_unary(BATCHES)
            await publish(_anchor().SerializeToString())
        async with working("bench.steady", job) as load:
            found = await load.run(RUN_S)
        if found["errors"]:
            message = f"not all requests were answered: {found['failures']}"
            raise RuntimeError(message)
    with closing(apsw.Connection(str(directory / "scores.db"))) as file:
        [(rows, first, last)] = file.execute(_SHOWN)
    with closing(apsw.Connection(str(directory / "signals.db"))) as file:
        stored, signals = file.execute(_BYTES, ("%",)).get, file.execute("SELECT count(*) FROM signals").get
    progress(f"  {signals:,} signals, {rows:,} rows in {(last - first) / SECOND:.1f} s")
    return (rows - 1) / ((last - first) / SECOND), stored / signals
