"""The commands as somebody at a terminal sees them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
from tests.e2e.commanding import json_lines, records
from tests.e2e.rows import a_row
from tests.serving import COMMAND, Served, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

# COLUMNS, which pytest's workers set, would beat the terminal's own width.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
_DRAWING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A running command on a terminal of its own."""

    def __init__(self, process: asyncio.subprocess.Process, screen: int) -> None:
        self._process = process
        self._screen = screen
        self._shown = b""
        os.set_blocking(screen, False)
        asyncio.get_running_loop().add_reader(screen, self._read)

    def _read(self) -> None:
        try:
            self._shown += os.read(self._screen, 65_536)
        except OSError:
            asyncio.get_running_loop().remove_reader(self._screen)

    @property
    def text(self) -> str:
        """Everything drawn so far, without the drawing."""
        return _DRAWING.sub("", self._shown.decode(errors="replace"))

    async def shows(self, text: str) -> None:
        """Return when it was drawn."""
        await until(lambda: text in self.text, within_s=30)

    async def interrupted(self) -> int:
        """Ctrl-C; its exit code."""
        self._process.send_signal(signal.SIGINT)
        return await self.ended()

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(30):
            return await self._process.wait()


@asynccontextmanager
async def on_terminal(*arguments: str, columns: int = 110, address: str = "") -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**_ENVIRONMENT, "TERM": "xterm", **({"COHERENCE_GRPC": address} if address else {})},
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)


async def test_top_follows_the_portfolio_also_over_a_restart_of_the_server(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, http=False) as served:
        await records(served, "publish", "-", stdin=json_lines([a_row(tenant, value=0.25)]))
        async with on_terminal("top", "--interval", "0.1", address=served.grpc) as terminal:
            await terminal.shows("0.250000")
            await served.kill()
            await terminal.shows(f"no answer from {served.grpc}; trying again")

            async with serving(tmp_path, "--grpc", served.grpc, http=False):
                await records(served, "publish", "-", stdin=json_lines([a_row(tenant, value=0.75)]))
                await terminal.shows("0.500000")
                exit_code = await terminal.interrupted()

    assert exit_code == 130


async def test_an_import_shows_how_far_it_is(service: Served, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_text(json_lines(a_row(tenant) for _ in range(2_000)))

    async with on_terminal("import", str(path), address=service.grpc) as terminal:
        await terminal.shows("100%")
        await terminal.shows("2,000")
        assert await terminal.ended() == 0


async def test_the_demo_draws_a_live_table_until_ctrl_c(tmp_path: Path) -> None:
    cache = cache_directory(None)
    try:
        flight_archive(cache, lambda _: None)
    except Failure as failure:
        pytest.skip(failure.message)

    async with on_terminal("demo", "--cache", str(cache), "--speed", "3600") as terminal:
        await terminal.shows("Try, while it runs:")
        await terminal.shows("JetBlue Airways")
        await terminal.shows("2013-02-08T03:")
        exit_code = await terminal.interrupted()

    assert exit_code == 130
    assert "Traceback" not in terminal.text
