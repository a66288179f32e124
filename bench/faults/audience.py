"""R13 and the cut subscriber: one reader that is stuck, and one whose connection breaks again and again."""

from __future__ import annotations

from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from bench.fanout import TENANT, listened
from bench.faults.run import Finding
from bench.report import progress
from bench.worker import working
from coherence_grpc.client import connect
from tests.e2e.cutting import cut_while_followed
from tests.e2e.following import over_grpc
from tests.e2e.wire import wire_to
from tests.serving import serving
from tests.validators import Truth, check, seen_on_the_wire

if TYPE_CHECKING:
    from bench.faults.run import Length
    from coherence.v1.events_pb2 import SubscribeResponse

FROZEN_DEMAND: Final = "the frozen one ends with a resume cursor, and resuming completes; the others' p95 within ±20 %"
CUT_DEMAND: Final = "every signal and status change once, in order, over all cuts"
STREAMS: Final = 99
# The server bears with a reader for 30 s, and some seconds pass before the wire is full.
SIGNALS: Final = 4500
SKIPPED: Final = 200
WAKE_S: Final = 60.0
TOLERANCE: Final = 0.2


async def frozen(length: Length) -> Finding:
    """A hundred subscribers, in turns all well and one frozen."""
    without, beside, woken = [], [], []
    for turn in range(length.runs):
        async with serving(length.fresh("well"), http=False) as served:
            well = await listened(served.grpc, TENANT, STREAMS + 1, count=SIGNALS, skip=SKIPPED)
        found, sleeper = await _with_one_frozen(length)
        without.append(well["p95_ms"])
        beside.append(found["p95_ms"])
        woken.append(sleeper | {"lost_by_others": found["lost"] + well["lost"]})
        progress(
            f"  round {turn + 1}: p95 {well['p95_ms']:.2f} ms, beside a frozen one {found['p95_ms']:.2f} ms; {sleeper}"
        )
    ratio = median(beside) / median(without)
    told = all(any("LAGGED" in ending for ending in w["endings"]) for w in woken)
    held = told and all(w["whole"] and not w["lost_by_others"] for w in woken)
    return Finding(
        FROZEN_DEMAND,
        held,
        {"p95_ms": without, "p95_ms_beside_a_frozen_one": beside, "ratio_of_medians": round(ratio, 3), "frozen": woken},
        in_time=abs(ratio - 1) <= TOLERANCE,
    )


async def _with_one_frozen(length: Length) -> tuple[dict[str, Any], dict[str, Any]]:
    async with serving(length.fresh("frozen"), http=False) as served:
        job = {"address": served.grpc, "tenant": TENANT, "expected": SIGNALS}
        async with working("bench.faults.sleeper", job) as sleeper:
            found = await listened(served.grpc, TENANT, STREAMS, count=SIGNALS, skip=SKIPPED)
            return found, await sleeper.run(WAKE_S)


async def cut(length: Length) -> Finding:
    """A follower whose connection is cut at random moments while signals and status changes come."""
    begun = monotonic()
    history: list[SubscribeResponse] = []
    async with (
        serving(length.fresh("cut"), http=False) as served,
        connect(served.grpc) as client,
        wire_to(served.grpc) as wire,
    ):
        again = over_grpc(wire.address, TENANT, history)
        found = await cut_while_followed(client, TENANT, wire, again, (grpc.aio.AioRpcError,), cuts=length.runs)
    signals = found.follower.signals
    flaw = _flaw(history, Truth(found.head, found.changes, found.version))
    figures = {
        "cuts": length.runs,
        "connections": found.follower.connections,
        "frames": len(history),
        "signals": found.head,
        "lost": len(set(range(1, found.head + 1)) - set(signals)),
        "twice": len(signals) - len(set(signals)),
        "status_changes": len(found.changes),
        "flaw": flaw,
        "seconds": round(monotonic() - begun, 1),
    }
    return Finding(CUT_DEMAND, not flaw and signals == list(range(1, found.head + 1)), figures)


def _flaw(history: list[SubscribeResponse], truth: Truth) -> str:
    """What the validators of the tests say of everything that came over the wire; empty when all is well."""
    try:
        check(seen_on_the_wire(history), truth)
    except AssertionError as flaw:
        return f"{flaw}"[:500] or "not as the log says"
    return ""
