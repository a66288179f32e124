"""`coherence demo`: the main job, on real data."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.instants import INSTANT
from coherence_grpc.cli.output import notes, on_terminal, plain, screen
from coherence_grpc.cli.session import asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from coherence_grpc.cli.demo.board import Board

WATCHED_SPEED: Final = 600.0
UNWATCHED_SPEED: Final = 3_600.0
TREND_EVERY_HOURS: Final = 1
ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
SHOWN_TENANT: Final = "b6"


@click.command()
@click.option(
    "--speed",
    type=click.FloatRange(min=1, max=36_000),
    help="Simulated seconds a second.  [default: 600; 3600 without a terminal]",
)
@click.option(
    "--until",
    type=INSTANT,
    metavar="INSTANT",
    help="When to end.  [default: Ctrl-C; 2013-02-11T00:00Z without a terminal]",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Where the flight data is kept.  [default: ~/.cache/coherence]"
)
@json_option
@asynchronous
async def demo(speed: float | None, until: int | None, cache: Path | None, as_json: bool) -> int:
    """Watch a blizzard over New York turn 16 airlines CRITICAL, and then recover.

    It fetches the real departures of 2013, starts a service of its own with a simulated clock, publishes every
    departure through gRPC at the moment it became known, and shows the scores. Nothing is left behind.

    Without a terminal it prints a line per simulated hour and ends by itself.
    """
    from coherence_grpc.cli.demo.calls import calls
    from coherence_grpc.cli.demo.feed import END, START, Feed
    from coherence_grpc.cli.demo.play import Play
    from coherence_grpc.cli.demo.service import embedded_service
    from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
    from coherence_grpc.cli.importing.flights import FlightArchive

    # `make demo </dev/null` is for scripts, which nobody could end with Ctrl-C.
    watched = on_terminal() and sys.stdin.isatty() and not as_json
    speed = speed or (WATCHED_SPEED if watched else UNWATCHED_SPEED)
    if not watched:
        until = until or END
    if until is not None and until <= START:
        message = "--until is before the demo starts, at 2013-02-08T00:00Z"
        raise Failure(message, "name a later instant", exit_code=USAGE)
    archive = FlightArchive(flight_archive(cache_directory(cache), lambda text: notes().print(plain(text))))
    airlines = archive.airlines()
    feed = Feed(archive.departures(), start=START, until=until)
    try:
        with _cancelled_by_signals():
            async with embedded_service(start=START, speed=speed) as service, session(service.grpc) as client:
                with _board(airlines, watched=watched, as_json=as_json) as board:
                    board.opening(service, speed, calls(service.grpc, service.http, SHOWN_TENANT))
                    await Play(client, service, feed, board, sorted(airlines), until=until).run(START)
    except _Terminated as terminated:
        return terminated.exit_code
    return 0


class _Terminated(Exception):
    """Somebody asked for the end, and everything was put away."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """SIGTERM, or a terminal that is closed, ends what is inside as Ctrl-C does: nothing is left behind."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        if task is not None:
            task.cancel()

    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if came:
            raise _Terminated(came[0]) from None
        raise
    finally:
        for number in ENDING_SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _board(airlines: Mapping[str, str], *, watched: bool, as_json: bool) -> Iterator[Board]:
    from rich.live import Live

    from coherence_grpc.cli.demo.board import JsonLines, Lines, LiveTable
    from coherence_grpc.cli.demo.feed import HOUR

    if not watched:
        yield JsonLines() if as_json else Lines()
        return
    with Live(console=screen(), auto_refresh=False) as live:
        yield LiveTable(live, airlines, TREND_EVERY_HOURS * HOUR)
