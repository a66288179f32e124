"""GetScore as a process answers it that reads the published rows in PostgreSQL, at a steady rate."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from bench.load import connected
from bench.plan import published
from bench.reads import GET_SCORE, SIGNALS, TENANTS
from bench.report import Figure, Target, progress
from bench.requests import tenant
from bench.servers import servers, switched
from bench.worker import working
from coherence.v1.score_pb2 import GetScoreRequest, GetScoreResponse, ScoreSource
from tests.serving import eventually, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bench.load import Call
    from bench.plan import Plan
    from bench.worker import Job

RATE: Final = 500
RUN_S: Final = 60.0
ROWS_S: Final = 30.0
P95: Final = f"PostgreSQL: GetScore at {RATE}/s, p95"
ERRORS: Final = f"PostgreSQL: GetScore at {RATE}/s, errors"
FIGURES: Final = (P95, ERRORS)


async def read_rows(plan: Plan) -> AsyncIterator[Figure]:
    """Best of several rounds; the errors of all."""
    directory = plan.fresh("rows")
    await switched(directory, read_mode="postgres")
    rounds: list[Job] = []
    async with (
        servers("postgres") as environment,
        serving(directory, http=False, environment=environment) as service,
    ):
        await published(service.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        await from_rows(service.grpc, "SCORE_SOURCE_MATERIALIZED")
        for _ in range(plan.either(3, 1)):
            rounds.append(await steadily(plan, service.grpc))
            progress(f"  {rounds[-1]['latency_ms']} {rounds[-1]['failures']}")
        sources = await sources_of(service.grpc)
    best = min(rounds, key=lambda found: found["latency_ms"].get("p95", float("inf")))
    yield Figure(
        P95,
        value=best["latency_ms"].get("p95"),
        unit="ms",
        targets=[Target(15, at_most=True)],
        details={"rate": RATE, "rounds": rounds, "sources": dict(sources)},
        not_run="" if best["answered"] else f"no request was answered: {best['failures']}",
    )
    yield Figure(
        ERRORS,
        value=sum(found["errors"] for found in rounds),
        unit="errors",
        targets=[Target(0, at_most=True)],
        details={"answered": sum(found["answered"] for found in rounds)},
    )


def requests() -> Sequence[bytes]:
    """One for each tenant."""
    return [GetScoreRequest(tenant_id=tenant(n)).SerializeToString() for n in range(TENANTS)]


async def steadily(plan: Plan, address: str) -> Job:
    """All tenants in turn."""
    job = {
        "address": address,
        "method": GET_SCORE,
        "bodies": [body.hex() for body in requests()],
        "rate": RATE,
        "warm_up_s": plan.either(3, 1),
        "seconds": plan.either(20, 2),
    }
    async with working("bench.steady", job) as load:
        return await load.run(RUN_S)


async def sources_of(address: str) -> Mapping[str, int]:
    """Where the scores of all tenants come from just now."""
    async with connected(address) as channel:
        call: Call = channel.unary_unary(GET_SCORE)
        replies = [GetScoreResponse.FromString(await call(body)) for body in requests()]
    return Counter(ScoreSource.Name(reply.score.source) for reply in replies)


async def from_rows(address: str, source: str) -> None:
    """Return when each tenant's score comes from there; TimeoutError when one never does."""
    await eventually(lambda: sources_of(address), lambda found: found[source] == TENANTS, within_s=ROWS_S)
