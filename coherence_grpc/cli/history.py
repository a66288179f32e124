"""`coherence history`: a score over a range of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import click

from coherence_grpc.cli.instants import DURATION, INSTANT, micros, render_age, timestamp
from coherence_grpc.cli.output import STYLE, Grid, counted, plain, say_json, screen, status_text
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rich.text import Text

    from coherence.v1.score_pb2 import ListScoreHistoryRequest, ListScoreHistoryResponse, ScorePoint, StatusSpan
    from coherence_grpc.client import Client

PAGE_SIZE: Final = 1_000
# As wide as a picture gets; and how many of its stretches are listed.
MOST_CELLS: Final = 96
MOST_SPANS: Final = 40
SECOND: Final = 1_000_000
SPARKS: Final = "▁▂▃▄▅▆▇█"
# How a stretch is drawn, so that it can be told without colours.
BAND: Final = {"HEALTHY": "─", "WARN": "▒", "CRITICAL": "█", "UNKNOWN": "·"}
# Of what was held within a cell the worst is drawn.
_WORST: Final = ("CRITICAL", "WARN", "HEALTHY", "UNKNOWN")
BASES: Final = {"recorded": "HISTORY_BASIS_RECORDED", "recomputed": "HISTORY_BASIS_RECOMPUTED"}


class Wanted(NamedTuple):
    """What is asked for; `step` in microseconds, 0: the server's default."""

    tenant: str
    start: int | None
    end: int | None
    step: int
    basis: str
    policy: str


class Span(NamedTuple):
    """A stretch of time with one held status, in microseconds."""

    status: str
    start: int
    end: int


@click.command()
@click.argument("tenant")
@click.option("--from", "start", type=INSTANT, metavar="INSTANT", help="From here.  [default: 24 h before --to]")
@click.option("--to", "end", type=INSTANT, metavar="INSTANT", help="Up to here.  [default: now]")
@click.option("--step", type=DURATION, default=0, metavar="DURATION", help="A point every so often, such as 15m or 1d.")
@click.option(
    "--basis",
    type=click.Choice(list(BASES)),
    default="recorded",
    show_default=True,
    help="What was shown then, or what the signals stored by now amount to.",
)
@click.option("--policy", default="", metavar="ETAG", help="Recomputed under this version of the policy.")
@json_option
@address_option
@asynchronous
async def history(as_json: bool, address: str, **asked: object) -> None:
    """Show a tenant's score over time, and when the status that was held changed.

    Without --step it is a picture with a stretch of time a column; with it the points are listed as well. --json prints
    every score that was published unless there is a --step.
    """
    wanted = Wanted(**asked)  # type: ignore[arg-type]  # click checked the types of the options
    async with session(address) as client:
        if as_json:
            say_json(await _record(client, wanted))
        else:
            await _show(client, wanted)


def _request(wanted: Wanted, page_size: int = PAGE_SIZE) -> ListScoreHistoryRequest:
    from google.protobuf.duration_pb2 import Duration

    from coherence.v1.score_pb2 import HistoryBasis, ListScoreHistoryRequest

    step = Duration()
    step.FromMicroseconds(wanted.step)
    return ListScoreHistoryRequest(
        tenant_id=wanted.tenant,
        start_time=None if wanted.start is None else timestamp(wanted.start),
        end_time=None if wanted.end is None else timestamp(wanted.end),
        step=step if wanted.step else None,
        basis=HistoryBasis.Value(BASES[wanted.basis]),
        policy_etag=wanted.policy,
        page_size=page_size,
    )


async def _pages(client: Client, request: ListScoreHistoryRequest) -> AsyncIterator[ListScoreHistoryResponse]:
    while True:
        page = await client.score.ListScoreHistory(request)
        yield page
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


async def _record(client: Client, wanted: Wanted) -> dict[str, object]:
    from coherence_grpc.cli.views import instant_of, status_word

    pages = [page async for page in _pages(client, _request(wanted))]
    return {
        "tenant_id": wanted.tenant,
        "basis": wanted.basis.upper(),
        "status_change_count": pages[0].status_change_count,
        "spans": [
            {
                "held_status": status_word(span.held_status),
                "start_time": instant_of(span.start_time),
                "end_time": instant_of(span.end_time),
            }
            for span in pages[0].spans
        ],
        "points": [_point_record(point) for page in pages for point in page.points],
    }


def _point_record(point: ScorePoint) -> dict[str, object]:
    from coherence_grpc.cli.views import instant_of, status_word

    return {
        "time": instant_of(point.time),
        "score": point.score if point.HasField("score") else None,
        "status": status_word(point.status),
        "held_status": status_word(point.held_status),
        "signal_count": point.signal_count,
        "version": point.version,
        "policy_etag": point.policy_etag,
    }


async def _show(client: Client, wanted: Wanted) -> None:
    # The server says where the range begins and ends: its clock need not be ours.
    whole = await client.score.ListScoreHistory(_request(wanted, page_size=1))
    spans = spans_of(whole.spans)
    start, end = spans[0].start, spans[-1].end
    fixed = wanted._replace(start=start, end=end)
    cells = max(1, min(MOST_CELLS, screen().width, (end - start) // SECOND))
    drawn = _request(fixed._replace(step=max((end - start) // cells, SECOND)))
    points = [point async for page in _pages(client, drawn) for point in page.points][:cells]
    screen().print(_headline(wanted, start, end, whole.status_change_count), soft_wrap=True)
    for line in picture(points, spans, cells):
        screen().print(line, soft_wrap=True)
    screen().print("", spans_table(spans), sep="\n")
    if len(spans) > MOST_SPANS:
        screen().print(plain(f"… after {len(spans) - MOST_SPANS:,} others, which --json lists"))
    if wanted.step:
        listed = [point async for page in _pages(client, _request(fixed)) for point in page.points]
        screen().print("", points_table(listed), sep="\n")


def spans_of(spans: Sequence[StatusSpan]) -> list[Span]:
    """The stretches of a reply."""
    from coherence_grpc.cli.views import status_word

    return [Span(status_word(span.held_status), micros(span.start_time), micros(span.end_time)) for span in spans]


def _headline(wanted: Wanted, start: int, end: int, changes: int) -> Text:
    from coherence_grpc.cli.views import second_of

    line = plain(f"{wanted.tenant}  {second_of(timestamp(start))} to {second_of(timestamp(end))}  ")
    line.append(counted(changes, "status change"), "bold")
    return line.append(f"  {wanted.basis}", "dim")


def picture(points: Sequence[ScorePoint], spans: Sequence[Span], cells: int) -> list[Text]:
    """The score as a line of bars, below it what was held, and what the signs mean."""
    from rich.text import Text

    start, end = spans[0].start, spans[-1].end
    words = held_by_cell(spans, start, end, cells)
    bars, band = Text(no_wrap=True), Text(no_wrap=True)
    for word, point in zip(words, points, strict=False):
        level = min(int(point.score * len(SPARKS)), len(SPARKS) - 1)
        bars.append(SPARKS[level] if point.HasField("score") else " ", STYLE[word])
    for word in words:
        band.append(BAND[word], STYLE[word])
    legend = Text("1.0 is a full bar; held: ", "dim", no_wrap=True)
    for word in (word for word in BAND if word in words):
        legend.append(f"{BAND[word]} {word}  ", STYLE[word])
    return [bars, band, legend]


def held_by_cell(spans: Sequence[Span], start: int, end: int, cells: int) -> list[str]:
    """The worst that was held in each of as many equal parts of the range."""
    held: list[set[str]] = [set() for _ in range(cells)]
    length = max(end - start, 1)
    for span in spans:
        first = (span.start - start) * cells // length
        last = max(first, ((span.end - start) * cells - 1) // length)
        for cell in range(min(first, cells - 1), min(last, cells - 1) + 1):
            held[cell].add(span.status)
    return [next((word for word in _WORST if word in there), "UNKNOWN") for there in held]


def spans_table(spans: Sequence[Span]) -> Grid:
    """When what was held, the last ones of many."""
    from coherence_grpc.cli.views import second_of

    grid = Grid("held", "from", "to", "for", whole=("held", "from", "to", "for"), optional=("to",))
    for span in spans[-MOST_SPANS:]:
        grid.add(
            status_text(span.status),
            second_of(timestamp(span.start)),
            second_of(timestamp(span.end)),
            render_age(span.end - span.start),
        )
    return grid


def points_table(points: Sequence[ScorePoint]) -> Grid:
    """One row a point."""
    from coherence_grpc.cli.views import score_figure, second_of, status_word

    grid = Grid(
        *("time", "score", "status", "held", "signals"),
        right=("score", "signals"),
        whole=("time", "status", "held"),
        optional=("signals", "held"),
    )
    for point in points:
        grid.add(
            second_of(point.time),
            score_figure(point),
            status_text(status_word(point.status)),
            status_text(status_word(point.held_status)),
            f"{point.signal_count:,}",
        )
    return grid
