"""The demo's own service: a child process on free ports, over a directory that is removed afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coherence_grpc.cli.failure import REFUSED, Failure
from coherence_grpc.cli.instants import render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READY_TIMEOUT_S: Final = 30.0
DRAIN_TIMEOUT_S: Final = 8.0
MOMENT_S: Final = 1.0
LOG: Final = "service.log"


@dataclass(frozen=True, slots=True)
class Service:
    """Where the running service listens, and how to tell whether it still does."""

    grpc: str
    http: str
    process: asyncio.subprocess.Process
    log: Path

    async def check(self) -> None:
        """Fail when the process has ended, or does so within a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT_S):
                await self.process.wait()
        if self.process.returncode is not None:
            raise _ended(self.process.returncode, self.log)


@asynccontextmanager
async def embedded_service(*, start: int, speed: float) -> AsyncIterator[Service]:
    """A ready service whose simulated clock started at `start`; on leaving it is drained and its data removed."""
    with tempfile.TemporaryDirectory(prefix="coherence-demo-") as directory:
        data = Path(directory)
        ours, theirs = os.pipe()
        try:
            process = await _spawned(data, ours, start=start, speed=speed)
            os.close(ours)
            try:
                yield await _ready(process, data / LOG)
            finally:
                await _stopped(process)
        finally:
            os.close(theirs)


async def _spawned(data: Path, lifeline: int, *, start: int, speed: float) -> asyncio.subprocess.Process:
    with (data / LOG).open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coherence_grpc", "serve", "--json", "--data", str(data / "data")),
            *("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--allow-unlimited"),
            *("--clock-start", render(start), "--clock-speed", f"{speed:g}"),
            # If this process is killed, the pipe closes and the service ends by itself.
            *("--lifeline-fd", str(lifeline)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            pass_fds=(lifeline,),
            # Ctrl-C is for the demo, which then stops the service.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("COHERENCE_")},
        )


async def _ready(process: asyncio.subprocess.Process, log: Path) -> Service:
    if process.stdout is None:
        raise AssertionError
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            line = await process.stdout.readline()
            if not line:
                raise _ended(await process.wait(), log)
    except TimeoutError:
        message = f"the service was not ready within {READY_TIMEOUT_S:g} s"
        raise Failure(message, _last_words(log), exit_code=REFUSED) from None
    addresses = json.loads(line)
    return Service(addresses["grpc"], addresses["http"], process, log)


async def _stopped(process: asyncio.subprocess.Process) -> None:
    """Drain it; whoever can't wait for that (a second Ctrl-C) ends it at once."""
    if process.returncode is None:
        process.terminate()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _ended(code: int, log: Path) -> Failure:
    return Failure(f"the service ended with exit code {code}", _last_words(log), exit_code=REFUSED)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return f"its last words: {lines[-1]}" if lines else "it said nothing"
