"""What `coherence doctor --offline` looks at: the files of a data directory that nothing serves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.embedded import (
    SystemClock,
    lock_directory,
    open_score_store,
    open_signal_store,
)
from coherence_grpc.cli.checks import Check
from coherence_grpc.cli.output import counted
from coherence_grpc.errors import CoherenceError, DataRefused, WindowIncomplete
from coherence_grpc.ledger import verify
from coherence_grpc.materialize import check_stores
from coherence_grpc.model import GENESIS

if TYPE_CHECKING:
    from pathlib import Path

    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreStore, SignalStore

SIGNALS_FILE: Final = "signals.db"
PAGE: Final = 10_000
REBUILD: Final = "run `coherence rebuild-scores --data DIR`"


async def offline_checks(data: Path) -> list[Check]:
    """The ledger of every tenant recomputed, and every published score that covers its whole log."""
    if not (data / SIGNALS_FILE).is_file():
        step = "name the data directory of a server with --data"
        return [Check("data directory", ok=False, found=f"{data} holds no {SIGNALS_FILE}", next_step=step)]
    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(lock_directory(data))
            signals = await stack.enter_async_context(open_signal_store(data, SystemClock()))
            scores = await stack.enter_async_context(open_score_store(data))
            return [await _ledgers(signals), await _stores(signals, scores), await _scores(signals, scores)]
    except CoherenceError as refused:
        return [Check("data directory", ok=False, found=refused.message)]


async def _ledgers(signals: SignalStore) -> Check:
    tenants = await signals.tenants()
    entries = 0
    for tenant_id in tenants:
        checked, problem = await _ledger(signals, tenant_id)
        entries += checked
        if problem:
            step = "restore the directory from a backup"
            return Check("ledger", ok=False, found=f"{tenant_id} breaks at {checked + 1:,}: {problem}", next_step=step)
    return Check("ledger", ok=True, found=f"intact: {entries:,} entries of {counted(len(tenants), 'tenant')}")


async def _ledger(signals: SignalStore, tenant_id: str) -> tuple[int, str]:
    """How many entries follow from each other, and what is wrong with the next; '' up to the head."""
    head = await signals.head(tenant_id)
    checked, reached = 0, GENESIS
    while checked < head.seq:
        _, rows = await signals.ledger(tenant_id, first=checked + 1, limit=PAGE)
        verdict = await asyncio.to_thread(verify, tenant_id, checked + 1, reached, rows)
        checked += verdict.checked
        if verdict.first_bad_seq or not rows:
            return checked, verdict.reason or f"entry {checked + 1} is missing"
        reached = verdict.head_hash
    return checked, "" if reached == head.head_hash else "the tenant's head is not the hash of its last entry"


async def _stores(signals: SignalStore, scores: ScoreStore) -> Check:
    try:
        await check_stores(signals, scores)
    except DataRefused as refused:
        return Check("stores", ok=False, found=refused.message, next_step=REBUILD)
    return Check("stores", ok=True, found="scores and signals belong together")


async def _scores(signals: SignalStore, scores: ScoreStore) -> Check:
    equal = behind = 0
    rows = await scores.get(await signals.tenants())
    for score in rows.values():
        head = await signals.head(score.tenant_id)
        if score.as_of_seq != head.seq:
            behind += 1
        elif await _as_recomputed(signals, score):
            equal += 1
        else:
            found = f"{score.tenant_id}: the stored score is not what its signals give"
            return Check("scores", ok=False, found=found, next_step=REBUILD)
    later = f", {behind:,} behind their log and brought up at start" if behind else ""
    return Check("scores", ok=True, found=f"{equal:,} as recomputed from the signals{later}")


async def _as_recomputed(signals: SignalStore, score: Score) -> bool:
    try:
        totals = await signals.totals(score.tenant_id, start=score.window_start, end=score.window_end)
    except WindowIncomplete:
        # What it was made of has outlived its retention: nothing to compare with.
        return True
    sums = totals.sums
    return (score.score_ppm, score.signal_count, score.weight_q) == (sums.score_ppm(), sums.count, sums.weight)
