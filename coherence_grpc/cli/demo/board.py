"""What the demo shows: a live table on a terminal, a line per simulated hour without one, or JSON lines."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Protocol

from coherence_grpc.cli.instants import micros, render, render_minute
from coherence_grpc.cli.output import STYLE, Grid, plain, say_json, screen, status_text
from coherence_grpc.cli.views import STATUSES, data_age, score_figure, score_record, status_word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from coherence.v1.score_pb2 import Score
    from coherence_grpc.cli.demo.calls import Call
    from coherence_grpc.cli.demo.service import Service

SPARKS: Final = "▁▂▃▄▅▆▇█"
TREND_POINTS: Final = 48
LEAST_POINTS: Final = 12
# What the other columns take.
WIDTH_WITH_NAMES: Final = 86
TITLE: Final = "New York, February 2013: every departure of 16 airlines, while a blizzard comes and goes"


class Board(Protocol):
    """Something to look at while the demo runs."""

    live: bool
    """It wants the scores between the hours too."""

    def opening(self, service: Service, speed: float, calls: Sequence[Call]) -> None:
        """The service is there."""
        ...

    def hour(self, at: int, scores: Sequence[Score]) -> None:
        """The scores at a full hour of the simulated clock."""
        ...

    def between(self, scores: Sequence[Score], sent: int) -> None:
        """The scores now, and how many departures were sent so far."""
        ...

    def ending(self, sent: int, seconds: float) -> None:
        """It is over."""
        ...


def counts_of(scores: Sequence[Score]) -> dict[str, int]:
    """How many tenants there are of each status."""
    counts = Counter(status_word(score.status) for score in scores)
    return {word: counts[word] for word in STATUSES}


def hour_line(at: int, counts: Mapping[str, int]) -> str:
    """`2013-02-09T05:00Z  HEALTHY 1   WARN 2   CRITICAL 12  UNKNOWN 1`."""
    return f"{render_minute(at)}  {'  '.join(f'{word} {count:<2}' for word, count in counts.items())}".rstrip()


def sparkline(points: Sequence[float | None]) -> str:
    """The scores as a line of bars, oldest first; a gap where there was none."""
    return "".join(" " if one is None else SPARKS[min(int(one * len(SPARKS)), len(SPARKS) - 1)] for one in points)


class Lines:
    """A line per simulated hour."""

    live = False

    def __init__(self) -> None:
        self._worst = (0, "")
        self._last: Mapping[str, int] = {}

    def opening(self, service: Service, speed: float, calls: Sequence[Call]) -> None:
        """The addresses and the calls."""
        screen().print(opening_text(service, speed, calls), soft_wrap=True)

    def hour(self, at: int, scores: Sequence[Score]) -> None:
        """Each status word with its count."""
        self._last = counts_of(scores)
        self._worst = max(self._worst, (self._last["CRITICAL"], render_minute(at)), key=lambda worst: worst[0])
        print(hour_line(at, self._last), flush=True)

    def between(self, scores: Sequence[Score], sent: int) -> None:
        """Nothing."""

    def ending(self, sent: int, seconds: float) -> None:
        """How bad it was, and how it is now."""
        count, at = self._worst
        print(
            f"done: {sent:,} departures through gRPC in {seconds:.0f} s; at {at} {count} of {sum(self._last.values())} "
            f"airlines were CRITICAL, now {self._last['CRITICAL']} are",
            flush=True,
        )


class JsonLines:
    """The same as JSON, one object a line, with every score."""

    live = False

    def opening(self, service: Service, speed: float, calls: Sequence[Call]) -> None:
        """The addresses and the calls."""
        say_json(
            {
                "grpc": service.grpc,
                "http": service.http,
                "speed": speed,
                "calls": [{"title": call.title, "command": call.command} for call in calls],
            }
        )

    def hour(self, at: int, scores: Sequence[Score]) -> None:
        """The counts and the scores."""
        say_json(
            {"time": render(at), "statuses": counts_of(scores), "scores": [score_record(score) for score in scores]}
        )

    def between(self, scores: Sequence[Score], sent: int) -> None:
        """Nothing."""

    def ending(self, sent: int, seconds: float) -> None:
        """How many departures were sent."""
        say_json({"departures": sent, "seconds": round(seconds, 1)})


class LiveTable:
    """A table of all tenants that is drawn anew with every look at the scores."""

    live = True

    def __init__(self, live: Live, airlines: Mapping[str, str], trend_every: int) -> None:
        self._live = live
        self._airlines = airlines
        self._trend_every = trend_every
        self._trends: dict[str, deque[float | None]] = {tenant: deque(maxlen=TREND_POINTS) for tenant in airlines}
        self._next_point = 0

    def opening(self, service: Service, speed: float, calls: Sequence[Call]) -> None:
        """The addresses and the calls, above the table."""
        self._live.console.print(opening_text(service, speed, calls), soft_wrap=True)

    def hour(self, at: int, scores: Sequence[Score]) -> None:
        """Nothing: the table shows every moment."""

    def between(self, scores: Sequence[Score], sent: int) -> None:
        """Draw the table."""
        now = micros(scores[0].window_end_time)
        if now >= self._next_point:
            self._next_point = now + self._trend_every
            for score in scores:
                self._trends[score.tenant_id].append(score.score if score.HasField("score") else None)
        self._live.update(self._view(now, scores, sent), refresh=True)

    def ending(self, sent: int, seconds: float) -> None:
        """How many departures were sent."""
        self._live.console.print(plain(f"{sent:,} departures through gRPC in {seconds:.0f} s"))

    def _view(self, now: int, scores: Sequence[Score], sent: int) -> Group:
        from rich.console import Group

        room = self._live.console.width - WIDTH_WITH_NAMES
        points = min(max(room, LEAST_POINTS), TREND_POINTS)
        grid = Grid(
            *("tenant", "airline", "score", "status", "trend", "signals", "data age"),
            right=("score", "signals"),
            whole=("airline", "status", "trend", "data age"),
            optional=("airline", "trend", "data age", "signals"),
        )
        for score in scores:
            grid.add(
                score.tenant_id,
                self._airlines[score.tenant_id],
                score_figure(score),
                status_text(status_word(score.status)),
                sparkline(list(self._trends[score.tenant_id])[-points:]).rjust(points),
                f"{score.signal_count:,}",
                data_age(score),
            )
        return Group(_headline(now, scores, sent), grid)


def _headline(now: int, scores: Sequence[Score], sent: int) -> Text:
    line = plain(f"{render_minute(now)}  ")
    line.stylize("bold")
    for word, count in counts_of(scores).items():
        line.append(f"{word} {count:<2}  ", STYLE[word])
    line.no_wrap, line.overflow = True, "ellipsis"
    return line.append(f"{sent:,} departures  Ctrl-C ends it", "dim")


def opening_text(service: Service, speed: float, calls: Sequence[Call]) -> Text:
    """What it is, where it listens, and what to try."""
    text = plain(f"{TITLE}, at {speed:,.0f}×")
    text.stylize("bold")
    text.append(
        f"\n\ngRPC     {service.grpc}\nGraphQL  http://{service.http}/graphql\n\nTry, while it runs:\n", "not bold"
    )
    for call in calls:
        text.append(f"\n# {call.title}\n", "dim not bold")
        text.append(f"{call.command}\n", "not bold")
    return text
