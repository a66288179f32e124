"""Helper processes: each does one job that came as JSON, says `ready`, waits for `go` and answers with JSON.

A load generator that shared the service's process, or this one, would be measured along with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.report import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

Job = dict[str, Any]  # what JSON can say
READY_S: Final = 120.0
ANSWER_LIMIT: Final = 256 * 1024 * 1024


class JobFailed(Exception):
    """A helper process ended without an answer; the message is the end of what it said."""


class Worker:
    """A helper process with its job; `go` lets it begin, `answer` waits for what it found."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said = ""

    async def ready(self, within_s: float = READY_S) -> str:
        """It has prepared everything and waits for `go`; what it said along with that, such as its address."""
        async with asyncio.timeout(within_s):
            word, _, said = (await self._line()).decode().strip().partition(" ")
        if word != "ready":
            message = f"{word} {said}"
            raise JobFailed(message)
        return said

    async def go(self) -> None:
        """Let it begin; a second time tells it to come to its end."""
        assert self._process.stdin
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()

    async def answer(self, within_s: float) -> Job:
        """What it found."""
        async with asyncio.timeout(within_s):
            found: Job = json.loads(await self._line())
        return found

    async def run(self, within_s: float) -> Job:
        """Let it begin and wait for what it found."""
        await self.go()
        return await self.answer(within_s)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def _line(self) -> bytes:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            message = f"a helper process ended with exit code {self._process.returncode}; its error is above"
            raise JobFailed(message)
        return line


@asynccontextmanager
async def working(module: str, job: Mapping[str, object]) -> AsyncIterator[Worker]:
    """A helper process that is ready; it is gone on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, json.dumps(job)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=ANSWER_LIMIT,
    )
    try:
        worker = Worker(process)
        worker.said = await worker.ready()
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def job() -> Job:
    """The job of this process."""
    read: Job = json.loads(sys.argv[1])
    return read


def say_ready(said: str = "") -> None:
    """Tell the parent that everything is prepared."""
    print("ready", said, flush=True)


def wait_for_go() -> None:
    """Return when the parent says go; end when it is gone."""
    if not sys.stdin.readline():
        raise SystemExit(1)


async def wait_for_go_async() -> None:
    """As wait_for_go, while the loop goes on."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(sys.stdin, told.set)
    try:
        await told.wait()
        wait_for_go()
    finally:
        loop.remove_reader(sys.stdin)


def answer(found: Mapping[str, object]) -> None:
    """Tell the parent what was found."""
    print(json.dumps(found), flush=True)


def run_async(work: Callable[[Job], Awaitable[Mapping[str, object]]]) -> None:
    """Run this process's job on uvloop and answer with what it returns."""
    import uvloop

    async def whole() -> None:
        answer(await work(job()))

    uvloop.run(whole())
