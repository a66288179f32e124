"""A served instance: `coherence serve` as its own process, started, stopped and killed by tests and benchmarks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

_Read = TypeVar("_Read")
COMMAND: Final = Path(sys.executable).with_name("coherence")
READY_S: Final = 30.0
STOP_S: Final = 30.0
GONE_S: Final = 10.0
POLL_S: Final = 0.005
ASK_S: Final = 0.02
PROC: Final = Path("/proc")
# What a service is told by its test alone, whatever whoever runs the tests has set.
NOT_INHERITED: Final = ("COHERENCE_", "NEO4J_", "POSTGRES_URI", "REDIS_URL")
# Its other end closes when this process ends, however that comes: then every service it started drains.
LIFELINE, _HELD = os.pipe()


class NotServing(Exception):
    """The service ended or stayed silent instead of becoming ready; `stderr` is what it said."""

    def __init__(self, exit_code: int | None, stdout: str, stderr: str) -> None:
        super().__init__(f"exit code {exit_code}\n{stdout}\n{stderr}")
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class LeftBehind(AssertionError):
    """Processes of an ended service are still running."""

    def __init__(self, pids: Iterable[Pid]) -> None:
        super().__init__({pid.number: command_line(pid.number) for pid in pids})


class Pid(NamedTuple):
    """A process, told from a later one with the same number by its start time in clock ticks."""

    number: int
    started: int


class Spoken(NamedTuple):
    """What a command that ended left."""

    exit_code: int
    stdout: str
    stderr: str


async def until(condition: Callable[[], object], *, within_s: float = GONE_S) -> None:
    """Return when the condition holds; TimeoutError when it doesn't in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the end of a process and the growth of a file set no event
            await asyncio.sleep(POLL_S)


async def eventually(
    read: Callable[[], Awaitable[_Read]], matches: Callable[[_Read], object] = bool, *, within_s: float = GONE_S
) -> _Read:
    """What `read` answers once that matches (by default: is not empty); TimeoutError when it doesn't in time."""
    async with asyncio.timeout(within_s):
        while not matches(answer := await read()):  # noqa: ASYNC110 - another process's state sets no event
            await asyncio.sleep(ASK_S)
    return answer


@dataclass(slots=True)
class Served:
    """A ready service. `grpc`, `http` and `metrics` are its addresses (host:port).

    `http` is empty without a subgraph, `metrics` without a page of metrics.
    """

    process: asyncio.subprocess.Process
    directory: Path
    stdout_path: Path
    stderr_path: Path
    grpc: str = ""
    http: str = ""
    metrics: str = ""
    ready_s: float = 0.0
    family: frozenset[Pid] = frozenset()

    @property
    def url(self) -> str:
        """Base of its HTTP addresses."""
        return f"http://{self.http}"

    @property
    def stderr(self) -> str:
        """What it has logged."""
        return self.stderr_path.read_text(errors="replace")

    @property
    def tracebacks(self) -> int:
        """How many tracebacks it spilled beside its log."""
        return sum(line.startswith("Traceback") for line in self.stderr.splitlines())

    def descendants(self) -> frozenset[Pid]:
        """Itself and every process below it, also those whose parents are gone but were seen before."""
        self.family |= family_of(self.process.pid)
        return frozenset(filter(alive, self.family))

    def children(self) -> frozenset[Pid]:
        """The processes below it."""
        return frozenset(pid for pid in self.descendants() if pid.number != self.process.pid)

    async def stop(self, *, within_s: float = STOP_S) -> int:
        """Ask it to drain and end (SIGTERM); its exit code."""
        self.descendants()
        self.process.terminate()
        return await self.ended(within_s=within_s)

    async def kill(self) -> None:
        """Kill the main process alone (SIGKILL); what it started has to notice by itself."""
        self.descendants()
        self.process.kill()
        await self.ended()

    async def ended(self, *, within_s: float = STOP_S) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    async def all_gone(self, *, within_s: float = GONE_S) -> None:
        """Return when nothing of it runs any more; LeftBehind when something stays."""
        try:
            await until(lambda: not self.descendants(), within_s=within_s)
        except TimeoutError:
            raise LeftBehind(self.descendants()) from None


@asynccontextmanager
async def serving(
    directory: Path,
    *flags: str,
    http: bool = True,
    environment: Mapping[str, str] | None = None,
    drain: bool = False,
    ready_within_s: float = READY_S,
) -> AsyncIterator[Served]:
    """A ready service over `directory` on free ports; nothing of it runs any more on leaving.

    It is killed on leaving, unless `drain` asks it to end by itself: the store survives both.
    """
    with tempfile.TemporaryDirectory(prefix="coherence-served-") as scratch:
        begun = monotonic()
        served = await _spawn(directory, _arguments(directory, flags, http=http), environment, Path(scratch))
        try:
            await _become_ready(served, ready_within_s)
            served.ready_s = monotonic() - begun
            with _log_shown(served):
                yield served
                if drain and served.process.returncode is None:
                    await served.stop()
        finally:
            await _put_away(served.process, served.descendants())


async def spoken(
    *arguments: str, environment: Mapping[str, str] | None = None, within_s: float = READY_S, stdin: bytes = b""
) -> Spoken:
    """Run `coherence` with these arguments to its end."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(environment),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(within_s):
            stdout, stderr = await process.communicate(stdin)
    finally:
        await _put_away(process, frozenset())
    return Spoken(process.returncode or 0, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def alive(pid: Pid) -> bool:
    """The process is still there; a zombie runs no more."""
    fields = _stat(pid.number)
    return bool(fields) and fields[0] != "Z" and int(fields[19]) == pid.started


def family_of(root: int) -> frozenset[Pid]:
    """The process, those below it and those of its session."""
    rows = {int(entry.name): _stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()}
    found: set[int] = {number for number, fields in rows.items() if fields and int(fields[3]) == root}
    found |= {root} & rows.keys()
    while below := {n for n, fields in rows.items() if fields and int(fields[1]) in found} - found:
        found |= below
    return frozenset(Pid(number, int(rows[number][19])) for number in found if rows[number])


def command_line(number: int) -> str:
    """How a process was called; empty when it is gone."""
    try:
        return PROC.joinpath(str(number), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def resident_bytes(number: int) -> int:
    """Memory that a process holds; 0 when it is gone."""
    try:
        pages = PROC.joinpath(str(number), "statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _stat(number: int) -> Sequence[str]:
    """Fields of /proc/n/stat from the third (state) on; empty when the process is gone."""
    try:
        line = PROC.joinpath(str(number), "stat").read_text()
    except OSError:
        return ()
    # The second field is a name in parentheses that may hold anything.
    return line.rpartition(")")[2].split()


def _arguments(directory: Path, flags: Sequence[str], *, http: bool) -> Sequence[str]:
    named = {flag.partition("=")[0] for flag in flags}
    return (
        "serve",
        "--json",
        *("--data", str(directory)),
        *(() if "--grpc" in named else ("--grpc", "127.0.0.1:0")),
        *(() if "--http" in named else ("--http", "127.0.0.1:0" if http else "off")),
        *flags,
    )


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return own | {"NO_COLOR": "1"} | dict(extra or {})


async def _spawn(
    directory: Path, arguments: Sequence[str], environment: Mapping[str, str] | None, scratch: Path
) -> Served:
    stdout_path, stderr_path = scratch / "stdout", scratch / "stderr"
    # Files, not pipes: a service that says much must not block on a reader that is gone.
    with stdout_path.open("wb") as stdout, stderr_path.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            *arguments,
            "--lifeline-fd",
            str(LIFELINE),
            pass_fds=(LIFELINE,),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=_environment(environment),
            start_new_session=True,
        )
    return Served(process, directory, stdout_path, stderr_path)


async def _become_ready(served: Served, within_s: float) -> None:
    def line() -> str:
        head, newline, _ = served.stdout_path.read_text().partition("\n")
        return head if newline else ""

    try:
        await until(lambda: line() or served.process.returncode is not None, within_s=within_s)
        ready = json.loads(line())
    except (TimeoutError, ValueError):
        raise NotServing(served.process.returncode, served.stdout_path.read_text(), served.stderr) from None
    served.grpc, served.http = ready["grpc"], ready.get("http") or ""
    served.metrics = ready.get("metrics") or ""
    served.descendants()


async def _put_away(process: asyncio.subprocess.Process, family: frozenset[Pid]) -> None:
    """Kill the main process, give what it started the time to notice, and end what did not."""
    family |= family_of(process.pid)
    if process.returncode is None:
        process.kill()
    await process.wait()
    try:
        await until(lambda: not any(map(alive, family)))
    except TimeoutError:
        left = LeftBehind(filter(alive, family))
        for pid in filter(alive, family):
            os.kill(pid.number, signal.SIGKILL)
        raise left from None


@contextmanager
def _log_shown(served: Served) -> Iterator[None]:
    """A test that fails shows what the service logged."""
    try:
        yield
    except BaseException:
        sys.stderr.write(f"--- log of coherence serve ({served.directory}) ---\n{served.stderr[-8000:]}\n")
        raise
