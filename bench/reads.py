"""Reads: GetScore beside a bare handler, and the persisted tenantCoherence at a steady rate over HTTP."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.load import connected
from bench.plan import published
from bench.report import Figure, Target, progress
from bench.requests import tenant
from bench.worker import cpu_seconds, working
from coherence.v1.score_pb2 import GetScoreRequest, GetScoreResponse
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.load import Call
    from bench.plan import Plan
    from bench.worker import Job

GET_SCORE: Final = "/coherence.v1.ScoreService/GetScore"
OPERATION: Final = "pq_tenant_coherence_v1"
TENANTS: Final = 16
SIGNALS: Final = 1_000
CALLERS: Final = 16
RATE: Final = 300
RUN_S: Final = 60.0
EVALUATED: Final = "GetScore calls/s, evaluated each time"
GET_SCORE_FIGURES: Final = ("GetScore calls/s", EVALUATED)
HTTP_FIGURES: Final = ("tenantCoherence p95", "tenantCoherence errors")


async def get_score(plan: Plan) -> AsyncIterator[Figure]:
    """Closed-loop calls a second, service and bare handler in turns.

    A score that nothing has changed is answered from the response before, with the times of now. A call that brings
    a revision to have seen is always evaluated: the second figure is the least that a read can get.
    """
    async with serving(plan.fresh("get-score"), http=False) as service:
        await published(service.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        plain = [GetScoreRequest(tenant_id=tenant(n)) for n in range(TENANTS)]
        async with connected(service.grpc) as channel:
            call: Call = channel.unary_unary(GET_SCORE)
            replies = [await call(request.SerializeToString()) for request in plain]
        seeing = [_seeing(request, reply) for request, reply in zip(plain, replies, strict=True)]
        async with working("bench.bare", {"kind": "handler", "size": len(replies[0])}) as bare:
            rounds: list[dict[str, Job]] = []
            for turn in range(plan.either(10, 1)):
                rounds.append(
                    {
                        "bare handler": await _calls(plan, bare.said, bare.pid, plain),
                        GET_SCORE_FIGURES[0]: await _calls(plan, service.grpc, service.process.pid, plain),
                        EVALUATED: await _calls(plan, service.grpc, service.process.pid, seeing),
                    }
                )
                rates = " beside ".join(f"{found['per_second']:,.0f}" for found in rounds[-1].values())
                progress(f"  round {turn + 1}: {rates}")
    samples = {name: [found[name]["per_second"] for found in rounds] for name in rounds[0]}
    for name, targets in zip(GET_SCORE_FIGURES, ([Target(0.75, of="ratio")], []), strict=True):
        yield Figure(
            name,
            value=median(samples[name]),
            unit="calls/s",
            reference=median(samples["bare handler"]),
            reference_name="bare handler",
            targets=targets,
            samples=samples,
            details={"reply_bytes": len(replies[0]), "callers": CALLERS, "rounds": rounds},
        )


def _seeing(request: GetScoreRequest, reply: bytes) -> GetScoreRequest:
    seeing = GetScoreRequest(tenant_id=request.tenant_id)
    seeing.consistency.at_least_as_fresh.CopyFrom(GetScoreResponse.FromString(reply).revision)
    return seeing


async def _calls(plan: Plan, address: str, pid: int, requests: list[GetScoreRequest]) -> Job:
    job = {
        "kind": "closed",
        "address": address,
        "method": GET_SCORE,
        "bodies": [request.SerializeToString().hex() for request in requests],
        "callers": CALLERS,
        "seconds": plan.either(2, 1),
    }
    async with working("bench.load", job) as load:
        before = cpu_seconds(pid)
        found = await load.run(RUN_S)
    return found | {"cpu_us_a_call": round((cpu_seconds(pid) - before) / max(1, found["calls"]) * 1e6, 1)}


async def tenant_coherence(plan: Plan) -> AsyncIterator[Figure]:
    """The persisted operation at 300 requests a second, from the instant each was meant to be sent."""
    async with serving(plan.fresh("tenant-coherence")) as service:
        await published(service.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        bodies = [json.dumps({"id": OPERATION, "variables": {"tenantId": tenant(n)}}) for n in range(TENANTS)]
        job = {
            "address": service.http,
            "path": "/graphql",
            "bodies": bodies,
            "rate": RATE,
            "warm_up_s": plan.either(3, 1),
            "seconds": plan.either(20, 2),
        }
        rounds = []
        for _ in range(plan.either(3, 1)):
            async with working("bench.openloop", job) as load:
                rounds.append(await load.run(RUN_S))
            progress(f"  {rounds[-1]['latency_ms']} {rounds[-1]['failures']}")
    best = min(rounds, key=lambda found: found["latency_ms"].get("p95", float("inf")))
    yield Figure(
        HTTP_FIGURES[0],
        value=best["latency_ms"].get("p95"),
        unit="ms",
        targets=[Target(30, at_most=True)],
        samples={f"round {n + 1}": found.pop("samples_ms") for n, found in enumerate(rounds)},
        details={"rate": RATE, "rounds": rounds},
        not_run="" if best["answered"] else f"no request was answered: {best['failures']}",
    )
    yield Figure(
        HTTP_FIGURES[1],
        value=sum(found["errors"] for found in rounds),
        unit="errors",
        reference=None,
        targets=[Target(0, at_most=True)],
        details={"answered": sum(found["answered"] for found in rounds)},
    )
