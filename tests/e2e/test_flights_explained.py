"""The blizzard explained: what it says is what happens when its worst signal is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from coherence.v1 import ingest_pb2, score_pb2, signal_pb2
from coherence_grpc.cli.instants import parse_instant, timestamp
from coherence_grpc.client import connect
from tests.e2e.commanding import run
from tests.e2e.publishing_flights import publish_flights
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

CARRIER: Final = "aa"
BLIZZARD: Final = "2013-02-09T18:00:00Z"
AT: Final = timestamp(parse_instant(BLIZZARD))
DAY_S: Final = 86_400


async def test_the_blizzard_is_explained_to_the_last_signal(tmp_path: Path) -> None:
    asked = score_pb2.ExplainScoreRequest(tenant_id=CARRIER, top_n=100, as_of_time=AT)
    now = score_pb2.GetScoreRequest(tenant_id=CARRIER, as_of_time=AT)
    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        await publish_flights(client, CARRIER, start_s=AT.seconds - DAY_S, end_s=AT.seconds + DAY_S)

        explained = await client.score.ExplainScore(asked)
        shown = await run(served, "explain", CARRIER, "--as-of", BLIZZARD)
        before = (await client.score.GetScore(now)).score
        top = explained.contributions[0]
        muted = signal_pb2.Signal()
        muted.CopyFrom(top.signal.signal)
        muted.weight = 0
        await client.ingest.PublishSignal(
            ingest_pb2.PublishSignalRequest(
                signal=muted,
                on_conflict=ingest_pb2.ON_CONFLICT_REPLACE,
                tags=signal_pb2.Tags(retention=signal_pb2.RETENTION_UNLIMITED),
            )
        )
        after = (await client.score.GetScore(now)).score

    assert (before.score, before.signal_count) == (0.154991, 88)
    assert explained.score.score == before.score
    for parts in (explained.contributions, explained.sources, explained.types, explained.provenances):
        assert sum(part.push for part in parts) == pytest.approx(before.score - 1, abs=1e-6)
    assert [source.name for source in explained.sources] == ["JFK", "LGA", "EWR"]
    assert "JFK" in shown.stdout
    assert (after.score, after.signal_count) == (0.160189, 87)
    assert after.score - before.score == pytest.approx(top.delta_if_removed, abs=1e-9)
