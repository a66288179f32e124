"""What the demo draws, and what it says when its service fails."""

from __future__ import annotations

import asyncio
import sys
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from rich.live import Live

from coherence.v1.score_pb2 import STATUS_CRITICAL, STATUS_HEALTHY, STATUS_UNKNOWN, Score
from coherence_grpc.cli.demo.board import Lines, LiveTable
from coherence_grpc.cli.demo.feed import HOUR, START
from coherence_grpc.cli.demo.service import embedded_service
from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.instants import timestamp
from coherence_grpc.cli.output import Grid

if TYPE_CHECKING:
    from pathlib import Path

AIRLINES = {"b6": "JetBlue Airways", "oo": "SkyWest Airlines Inc."}


def scores_at(at: int, value: float) -> list[Score]:
    jetblue = Score(
        tenant_id="b6",
        score=value,
        status=STATUS_HEALTHY if value >= 0.75 else STATUS_CRITICAL,
        signal_count=138,
        window_end_time=timestamp(at),
        data_time=timestamp(at - HOUR // 10),
    )
    return [jetblue, Score(tenant_id="oo", status=STATUS_UNKNOWN, window_end_time=timestamp(at))]


def drawn(width: int) -> list[str]:
    """The last picture of a table that saw three hours."""
    console = Console(
        file=StringIO(), width=width, height=50, force_terminal=True, color_system=None, legacy_windows=False
    )
    with Live(console=console, auto_refresh=False) as live:
        board = LiveTable(live, AIRLINES, HOUR)
        for hour, value in enumerate((0.9, 0.5, 0.1)):
            board.between(scores_at(START + hour * HOUR, value), 1_000 + hour)
    written = console.file
    assert isinstance(written, StringIO)
    return written.getvalue().rpartition("2013-02-08T02:00Z")[2].splitlines()


def test_the_table_shows_score_status_trend_signals_and_age_of_every_tenant() -> None:
    headline, header, _, jetblue, skywest, *_ = drawn(120)

    assert headline.split() == [
        "HEALTHY",
        "0",
        "WARN",
        "0",
        "CRITICAL",
        "1",
        "UNKNOWN",
        "1",
        "1,002",
        "departures",
        "Ctrl-C",
        "ends",
        "it",
    ]
    assert header.split() == ["tenant", "airline", "score", "status", "trend", "signals", "data", "age"]
    assert jetblue.split() == ["b6", "JetBlue", "Airways", "0.100000", "CRITICAL", "█▅▁", "138", "6", "min"]
    assert skywest.split() == ["oo", "SkyWest", "Airlines", "Inc.", "–", "UNKNOWN", "0", "–"]


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (80, "tenant score status trend signals data age"),
        (50, "tenant score status signals data age"),
        (40, "tenant score status signals"),
        (30, "tenant score status"),
    ],
)
def test_a_narrow_terminal_has_the_columns_that_fit(width: int, header: str) -> None:
    picture = drawn(width)

    assert picture[1].split() == header.split()
    assert max(map(len, picture)) <= width


def test_a_grid_never_cuts_a_figure_while_it_can_go_without_a_column() -> None:
    console = Console(file=StringIO(), width=20)
    grid = Grid("tenant", "score", "note", right=("score",), optional=("note",))
    grid.add("acme", "0.499496", "something to say")

    console.print(grid)

    written = console.file
    assert isinstance(written, StringIO)
    assert "0.499496" in written.getvalue()
    assert "something" not in written.getvalue()


def test_the_lines_end_with_the_worst_hour_and_the_present_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for hour, value in enumerate((0.9, 0.1, 0.9)):
        lines.hour(START + hour * HOUR, scores_at(START + hour * HOUR, value))

    lines.ending(3_351, 72)

    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "2013-02-08T01:00Z  HEALTHY 0   WARN 0   CRITICAL 1   UNKNOWN 1"
    assert shown[3] == (
        "done: 3,351 departures through gRPC in 72 s; at 2013-02-08T01:00Z 1 of 2 airlines were CRITICAL, now 0 are"
    )


@pytest.mark.anyio
async def test_a_service_that_does_not_start_is_said_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no room' >&2\nexit 7\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))

    with pytest.raises(Failure) as failed:
        async with asyncio.timeout(20), embedded_service(start=START, speed=1):
            pass

    assert failed.value.message == "the service ended with exit code 7"
    assert failed.value.next_step == "its last words: no room"
