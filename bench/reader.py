"""Reads tenants' whole logs in a process of its own: page by page, and by Subscribe from the beginning."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.load import connected
from bench.spread import spread
from bench.worker import Job, run_async, say_ready, wait_for_go
from coherence.v1.events_pb2 import (
    EVENT_KIND_SIGNAL_STORED,
    POSITION_EARLIEST,
    EventFilter,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)
from coherence.v1.ingest_pb2 import ListSignalsRequest, ListSignalsResponse
from coherence.v1.score_pb2 import GetScoreRequest, GetScoreResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc.aio

GET_SCORE: Final = "/coherence.v1.ScoreService/GetScore"
LIST: Final = "/coherence.v1.IngestService/ListSignals"
SUBSCRIBE: Final = "/coherence.v1.EventsService/Subscribe"
PAGE: Final = 1000
CALL_S: Final = 60.0


async def score(channel: grpc.aio.Channel, tenant_id: str, _: int) -> Mapping[str, object]:
    """The first read of a tenant, which loads its window."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_SCORE)
    begun = monotonic()
    reply = await call(GetScoreRequest(tenant_id=tenant_id).SerializeToString(), timeout=CALL_S)
    took_s = monotonic() - begun
    return {"elapsed_s": took_s, "signals": GetScoreResponse.FromString(reply).score.signal_count}


async def pages(channel: grpc.aio.Channel, tenant_id: str, signals: int) -> Mapping[str, object]:
    """All signals, newest first."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LIST)
    request = ListSignalsRequest(tenant_id=tenant_id, page_size=PAGE)
    took_s, found, begun = list[float](), 0, monotonic()
    while True:
        asked = monotonic()
        page = ListSignalsResponse.FromString(await call(request.SerializeToString(), timeout=CALL_S))
        took_s.append(monotonic() - asked)
        found += len(page.signals)
        request.page_token = page.next_page_token
        if not request.page_token:
            elapsed_s = monotonic() - begun
            return {
                "elapsed_s": elapsed_s,
                "signals": found,
                "missing": signals - found,
                "page_ms": spread(took_s, 0.001),
                "samples_s": took_s,
            }


async def events(channel: grpc.aio.Channel, tenant_id: str, signals: int) -> Mapping[str, object]:
    """All signals in the order of the log."""
    request = SubscribeRequest(
        tenant_id=tenant_id,
        start=Start(position=POSITION_EARLIEST),
        filter=EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED]),
        max_batch=PAGE,
    )
    call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(SUBSCRIBE)
    begun, last, wrong = monotonic(), 0, 0
    stream = call(request.SerializeToString(), timeout=CALL_S)
    async for body in stream:
        for event in SubscribeResponse.FromString(body).batch.events:
            wrong += event.signal.seq != last + 1
            last = event.signal.seq
        if last >= signals:
            break
    elapsed_s = monotonic() - begun
    stream.cancel()
    return {"elapsed_s": elapsed_s, "signals": last, "out_of_order": wrong}


KINDS: Final = {"score": score, "pages": pages, "events": events}


async def work(job: Job) -> Mapping[str, object]:
    """The reads of one kind, a tenant after the other."""
    async with connected(job["address"]) as channel:
        say_ready()
        wait_for_go()
        return {name: await KINDS[job["kind"]](channel, name, job["signals"]) for name in job["names"]}


if __name__ == "__main__":
    run_async(work)
