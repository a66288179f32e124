"""The materialiser's window: what one more signal costs with 1k, 100k and 1M in it, beside a full recompute.

Each step takes in one signal, moves time on so that one leaves, and reads the score. One signal in ten is late, by
anything up to the whole window. Under the richest policy every rule is in use, over 50 sources and 8 types, and each
step also finds out what is held and until when that is valid.
"""

from __future__ import annotations

from array import array
from operator import mul
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.report import Figure, Target, progress
from bench.worker import answer, job, say_ready, wait_for_go, working
from coherence_grpc.held import follow
from coherence_grpc.materialize.ruled import RuledWindow
from coherence_grpc.materialize.sweep import next_change
from coherence_grpc.materialize.window import Window
from coherence_grpc.model import GENESIS, QUANTUM, SECOND, WINDOW, Head, Item, Status
from coherence_grpc.policy import ScorePolicy, Veto
from coherence_grpc.ports import Group, WindowColumns
from tests.serving import resident_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.plan import Plan

SIZES: Final = {"1k": 1_000, "100k": 100_000, "1M": 1_000_000}
LATE: Final = 0.1
MIB: Final = 1024 * 1024
MEMORY: Final = "memory of 1M signals in window"
RULED: Final = "materialise a signal under the richest policy, 1M in window"
FIGURES: Final = (*(f"materialise a signal, {name} in window" for name in SIZES), MEMORY, RULED)
SOURCES: Final = 50
TYPES: Final = 8
RICHEST: Final = ScorePolicy(
    half_life_us=WINDOW // 4,
    hysteresis_ppm=20_000,
    dwell_us=3600 * SECOND,
    minimum_signals=10,
    stale_after_us=WINDOW // 2,
    vetoes=tuple(Veto(f"type-{number}", QUANTUM // 10, Status.WARN) for number in range(3)),
    type_weights=(("type-1", 2_000_000), ("type-2", 500_000)),
    source_cap_ppm=100_000,
)
RUN_S: Final = 120.0


async def materialise(plan: Plan) -> AsyncIterator[Figure]:
    """Best of several rounds a size, each in a process of its own; the largest size's memory last."""
    memory: list[float] = []
    for name, size in SIZES.items():
        rounds = []
        for _ in range(plan.either(3, 1)):
            asked = {"size": plan.either(size, min(size, 10_000)), "steps": plan.either(100_000, 2_000)}
            async with working("bench.window", asked) as worker:
                rounds.append(await worker.run(RUN_S))
        progress(f"  {name}: {[round(found['per_signal_us'], 2) for found in rounds]} µs a signal")
        memory = [found["resident_mib"] for found in rounds]
        yield Figure(
            f"materialise a signal, {name} in window",
            value=min(found["per_signal_us"] for found in rounds),
            unit="µs",
            reference=min(found["recompute_us"] for found in rounds),
            reference_name="full recompute",
            targets=[Target(10, at_most=True)] if name == "1M" else (),
            samples={"µs": [found["per_signal_us"] for found in rounds]},
            details={"rounds": rounds},
        )
    yield await _ruled(plan)
    yield Figure(
        MEMORY, value=max(memory), unit="MiB", targets=[Target(100, at_most=True)], samples={"resident MiB": memory}
    )


async def _ruled(plan: Plan) -> Figure:
    rounds = []
    for _ in range(plan.either(3, 1)):
        asked = {"size": plan.either(10**6, 10_000), "steps": plan.either(50_000, 2_000), "ruled": True}
        async with working("bench.window", asked) as worker:
            rounds.append(await worker.run(RUN_S))
    return Figure(
        RULED,
        value=min(found["per_signal_us"] for found in rounds),
        unit="µs",
        targets=[Target(25, at_most=True)],
        samples={"µs": [found["per_signal_us"] for found in rounds]},
        details={"rounds": rounds},
    )


def columns(size: int, now: int) -> WindowColumns:
    """`size` signals spread evenly over the window that ends now."""
    chance = Random(size)  # noqa: S311 - repeatable, not secret
    step = WINDOW // size
    return WindowColumns(
        array("q", range(now - step * (size - 1), now + 1, step)),
        array("L", (chance.randrange(QUANTUM + 1) for _ in range(size))),
        array("L", (chance.randrange(1, 4) * QUANTUM for _ in range(size))),
        Head(1, size, GENESIS),
    )


def arriving(size: int, steps: int, now: int) -> Sequence[Item]:
    """Signals to come, one a step; a tenth of them late."""
    chance = Random(steps)  # noqa: S311 - repeatable, not secret
    step = WINDOW // size
    return [
        Item(
            "service",
            "measurement",
            "latency",
            chance.randrange(QUANTUM + 1),
            QUANTUM,
            now + n * step - (chance.randrange(WINDOW) if chance.random() < LATE else 0),
        )
        for n in range(1, steps + 1)
    ]


def measured(size: int, steps: int) -> dict[str, object]:
    """µs a signal, µs of a recompute, and MiB that the window took."""
    now, before = 2 * WINDOW, _resident_mib()
    window = Window.of(columns(size, now), now)
    loaded_mib = _resident_mib() - before
    items, step, score = arriving(size, steps, now), WINDOW // size, None
    with_items = _resident_mib()
    begun = perf_counter()
    for number, item in enumerate(items, start=1):
        window.advance(now + number * step)
        window.add((item,))
        score = window.sums().score_ppm()
    elapsed_s = perf_counter() - begun
    columns_mib = window.allocated_bytes / MIB
    return {
        "size": size,
        "in_window": window.size,
        "score_ppm": score,
        "per_signal_us": elapsed_s / steps * 1e6,
        "recompute_us": _recompute_us(columns(size, now)),
        # A small window fits in what the process held already.
        "resident_mib": round(max(columns_mib, loaded_mib + max(0.0, _resident_mib() - with_items)), 1),
        "columns_mib": round(columns_mib, 1),
    }


def measured_ruled(size: int, steps: int) -> dict[str, object]:
    """µs a signal under the richest policy, and MiB of its columns."""
    now, chance = 2 * WINDOW, Random(size)  # noqa: S311 - repeatable, not secret
    groups = [Group(f"source-{number // TYPES}", f"type-{number % TYPES}") for number in range(SOURCES * TYPES)]
    stored = columns(size, now)._replace(
        group=array("I", (chance.randrange(len(groups)) for _ in range(size))), groups=groups
    )
    begun = perf_counter()
    window = RuledWindow.of(stored, RICHEST, now)
    load_s = perf_counter() - begun
    items = [
        item._replace(source=groups[n % len(groups)].source, type=groups[n % len(groups)].type)
        for n, item in enumerate(arriving(size, steps, now))
    ]
    step, held, verdict = WINDOW // size, None, window.verdict()
    begun = perf_counter()
    for number, item in enumerate(items, start=1):
        window.advance(now + number * step)
        window.add((item,))
        verdict = window.verdict()
        held = follow(held, RICHEST, verdict, window.now)
        next_change(window, held)
    elapsed_s = perf_counter() - begun
    return {
        "size": size,
        "in_window": window.size,
        "score_ppm": verdict.score_ppm,
        "per_signal_us": elapsed_s / steps * 1e6,
        "load_s": round(load_s, 3),
        "columns_mib": round(window.allocated_bytes / MIB, 1),
    }


def _recompute_us(stored: WindowColumns) -> float:
    """The sums over all signals anew, as it would have to be done for each signal."""
    times = []
    for _ in range(3):
        begun = perf_counter()
        assert sum(map(mul, stored.value_q, stored.weight_q))
        assert sum(stored.weight_q)
        times.append(perf_counter() - begun)
    return min(times) * 1e6


def _resident_mib() -> float:
    return resident_bytes(int(Path("/proc/self").resolve().name)) / MIB


if __name__ == "__main__":
    asked = job()
    say_ready()
    wait_for_go()
    answer((measured_ruled if asked.get("ruled") else measured)(asked["size"], asked["steps"]))
