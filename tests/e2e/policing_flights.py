"""What other rules make of a carrier's year: foretold by SimulateScore, then done, then read from its history."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.duration_pb2 import Duration

from coherence.v1 import score_pb2 as pb
from coherence_grpc.cli.importing.flights import CANCELLED
from coherence_grpc.cli.instants import micros, parse_instant, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.client import Client

TEN: Final = ("ua", "b6", "ev", "dl", "aa", "mq", "us", "9e", "wn", "vx")
HOUR: Final = 3_600 * 10**6
DAY: Final = 24 * HOUR
YEAR: Final = (parse_instant("2013-01-01T00:00:00Z"), parse_instant("2014-01-01T00:00:00Z"))
BLIZZARD: Final = (parse_instant("2013-02-06T00:00:00Z"), parse_instant("2013-02-10T12:00:00Z"))
# On the days before, some carriers were CRITICAL for reasons of their own.
SNOW: Final = parse_instant("2013-02-08T12:00:00Z")
STEADY: Final = pb.ScorePolicy(hysteresis=0.02, dwell=Duration(seconds=3 * 3600))
VETO: Final = pb.ScorePolicy(vetoes=[pb.Veto(type=CANCELLED, below=0.5, cap_status=pb.STATUS_CRITICAL)])
_CALL_S: Final = 60.0


class Stretch(NamedTuple):
    """A stretch of time with one held status."""

    status: int
    start: int
    end: int


class Foretold(NamedTuple):
    """What SimulateScore says of a carrier: changes of a year, its blizzard with the veto, and how long it took."""

    plain_changes: int
    steady_changes: int
    plain: Sequence[Stretch]
    vetoed: Sequence[Stretch]
    year_s: float

    @property
    def earlier_h(self) -> float | None:
        """How many hours earlier than plainly the veto makes the blizzard CRITICAL; None when it never is plainly."""
        late = next((one.start for one in self.plain if one.status == pb.STATUS_CRITICAL and one.end > SNOW), None)
        if late is None:
            return None
        early = next(
            one.start for one in self.vetoed if one.status == pb.STATUS_CRITICAL and one.start <= late < one.end
        )
        return (late - early) / HOUR


class Happened(NamedTuple):
    """What the recomputed history says once the rules are in force, and how long a year of it takes to read by day.

    `plain_lasting` leaves out what was held for a microsecond: a departure leaves one later than another of the same
    minute of the next day comes. `…_hourly` counts what somebody sees who looks at each full hour.
    """

    steady_changes: int
    steady_hourly: int
    plain_lasting: int
    plain_hourly: int
    vetoed: Sequence[Stretch]
    plain_year_s: float
    steady_year_s: float


async def foretell(client: Client, tenant: str) -> Foretold:
    """Both simulations, of which nothing must be left."""
    head = await _head(client, tenant)
    begun = perf_counter()
    year = await _simulated(client, tenant, STEADY, *YEAR)
    took = perf_counter() - begun
    storm = await _simulated(client, tenant, VETO, *BLIZZARD)
    plain = await _history(client, tenant, *BLIZZARD, etag="default")
    assert await _head(client, tenant) == head, "a simulation has written something"
    return Foretold(
        year.actual_change_count,
        year.simulated_change_count,
        _stretches(plain.spans),
        _overlaid(_stretches(plain.spans), storm.differences),
        took,
    )


async def do(client: Client, tenant: str) -> Happened:
    """The rules in force one after the other, and at the end those by default again."""
    plain_s, plain = await _year_by_day(client, tenant)
    await _adopt(client, tenant, VETO)
    vetoed = _stretches((await _history(client, tenant, *BLIZZARD)).spans)
    await _adopt(client, tenant, STEADY)
    steady = await _history(client, tenant, *YEAR)
    steady_s, _ = await _year_by_day(client, tenant)
    await _adopt(client, tenant, pb.ScorePolicy())
    return Happened(
        steady.status_change_count,
        _hourly(_stretches(steady.spans)),
        _lasting(plain),
        _hourly(plain),
        vetoed,
        plain_s,
        steady_s,
    )


async def _head(client: Client, tenant: str) -> tuple[int, bytes]:
    score = (await client.score.GetScore(pb.GetScoreRequest(tenant_id=tenant))).score
    return score.as_of_seq, score.head_hash


async def _simulated(
    client: Client, tenant: str, policy: pb.ScorePolicy, start: int, end: int
) -> pb.SimulateScoreResponse:
    lookback = Duration()
    lookback.FromMicroseconds(end - start)
    request = pb.SimulateScoreRequest(tenant_id=tenant, policy=policy, as_of_time=timestamp(end), lookback=lookback)
    return await client.score.SimulateScore(request, timeout=_CALL_S)


async def _history(
    client: Client, tenant: str, start: int, end: int, *, etag: str = "", page_size: int = 1
) -> pb.ListScoreHistoryResponse:
    request = pb.ListScoreHistoryRequest(
        tenant_id=tenant,
        start_time=timestamp(start),
        end_time=timestamp(end),
        step=Duration(seconds=86_400),
        basis=pb.HISTORY_BASIS_RECOMPUTED,
        policy_etag=etag,
        page_size=page_size,
    )
    return await client.score.ListScoreHistory(request, timeout=_CALL_S)


async def _year_by_day(client: Client, tenant: str) -> tuple[float, Sequence[Stretch]]:
    begun = perf_counter()
    page = await _history(client, tenant, *YEAR, page_size=1000)
    took = perf_counter() - begun
    assert len(page.points) == (YEAR[1] - YEAR[0]) // DAY + 1
    return took, _stretches(page.spans)


def _lasting(spans: Sequence[Stretch]) -> int:
    statuses = [span.status for span in spans if span.end - span.start > 1]
    return sum(one != other for one, other in pairwise(statuses))


def _hourly(spans: Sequence[Stretch]) -> int:
    # Of spans that begin within the same hour, the last is what is seen at its end.
    hours = {(span.start - YEAR[0] - 1) // HOUR: span.status for span in spans}
    return sum(one != other for one, other in pairwise(hours.values()))


async def _adopt(client: Client, tenant: str, policy: pb.ScorePolicy) -> None:
    request = pb.UpdateScorePolicyRequest(tenant_id=tenant, policy=policy)
    request.update_mask.paths.append("*")
    await client.score.UpdateScorePolicy(request, timeout=_CALL_S)


def _stretches(spans: Sequence[pb.StatusSpan]) -> list[Stretch]:
    return [Stretch(span.held_status, micros(span.start_time), micros(span.end_time)) for span in spans]


def _overlaid(spans: Sequence[Stretch], differences: Sequence[pb.StatusDifference]) -> list[Stretch]:
    """The stretches with the differences in their place."""
    cuts = {cut for span in spans for cut in (span.start, span.end)}
    cuts |= {micros(cut) for difference in differences for cut in (difference.start_time, difference.end_time)}
    ordered = sorted(cuts)
    found: list[Stretch] = []
    for start, end in pairwise(ordered):
        status = next(span.status for span in spans if span.start <= start < span.end)
        for difference in differences:
            if micros(difference.start_time) <= start < micros(difference.end_time):
                assert difference.actual_status == status
                status = difference.simulated_status
        if found and found[-1].status == status:
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Stretch(status, start, end))
    return found
