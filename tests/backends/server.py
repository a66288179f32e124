"""A running server: started on a free port, killed and started again, and ended with all that is its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, Signals
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from tests.backends import neo4j, postgres, redis
from tests.backends.accounts import identity
from tests.backends.ports import free_port
from tests.serving import PROC, Pid, alive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.backends.parts import Part

PARTS: Final[Mapping[str, Part]] = {"postgres": postgres, "redis": redis, "neo4j": neo4j}
# A killed Neo4j replays what it had not written to its files yet: half a minute for half a million nodes.
START_S: Final = 120.0
STOP_S: Final = 5.0
POLL_S: Final = 0.02
# Somebody else may take a port between our look and the server's.
OTHER_PORTS: Final = 2
# A directory without this file is not ours to remove.
MARK: Final = ".coherence-backend"


class DidNotStart(Exception):
    """The server ended, or stayed `silent`; the text ends with the last lines of its log."""

    def __init__(self, text: str, *, silent: bool) -> None:
        super().__init__(text)
        self.silent = silent


@dataclass(slots=True)
class Server:
    """One server; `home` holds all its files, and its processes work in there."""

    part: str
    home: Path
    port: int
    password: str
    pid: Pid
    process: subprocess.Popen[bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def variables(self) -> Mapping[str, str]:
        """How clients find it."""
        return PARTS[self.part].variables(self.port, self.password)

    @property
    def running(self) -> bool:
        """Its main process is there."""
        return alive(self.pid)


def start(part: str, note: Callable[[Server], None]) -> Server:
    """A new, empty server that answers; `note` is told of it before it does.

    Raises:
        DidNotStart: also at the last of a few ports.
        Missing: its program is not there.
    """
    home, password = _new_home(part), secrets.token_urlsafe(18)
    try:
        PARTS[part].create(home, password)
        for _ in range(OTHER_PORTS):
            try:
                return launch(part, home, free_port(), password, note)
            except DidNotStart as failure:
                if failure.silent:
                    raise
        return launch(part, home, free_port(), password, note)
    except BaseException:
        remove(home)
        raise


def launch(part: str, home: Path, port: int, password: str, note: Callable[[Server], None]) -> Server:
    """A server over that directory that answers, the first time or after its processes were killed.

    Raises:
        DidNotStart: nothing of it runs any more.
    """
    how = PARTS[part].launch(home, port)
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            how.command,
            **identity(how.user),
            env=how.environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid = pid_of(process.pid)
    assert pid, "a child that nobody has waited for keeps its number"
    server = Server(part, home, port, password, pid, process)
    note(server)
    try:
        _until_it_answers(server, process)
    except BaseException:
        kill(server)
        raise
    return server


def signal_all(server: Server, number: Signals) -> None:
    """Send every process of the server a signal, the main one first: it can't act on the end of the others."""
    for pid in sorted(processes(server), key=lambda pid: pid != server.pid):
        with suppress(ProcessLookupError):
            os.kill(pid.number, number)


def kill(server: Server) -> None:
    """Kill every process of the server at once; its files stay."""
    until = monotonic() + STOP_S
    while processes(server) and monotonic() < until:
        signal_all(server, SIGKILL)
        _wait(server, POLL_S)
    if server.process is not None:
        server.process.wait(STOP_S)  # unburied it keeps its number, and PostgreSQL's lock file names that


def end(server: Server) -> None:
    """End the server and remove its files."""
    if server.running:
        with suppress(ProcessLookupError):
            os.kill(server.pid.number, PARTS[server.part].STOP)
        signal_all(server, SIGCONT)  # one that was stopped can't end
        until = monotonic() + STOP_S
        while server.running and monotonic() < until:
            _wait(server, POLL_S)
    kill(server)
    remove(server.home)


def processes(server: Server) -> frozenset[Pid]:
    """What works below the server's directory.

    Parents and sessions don't tell: the children of a killed PostgreSQL are nobody's, each in a session of its own.
    """
    numbers = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    found = (pid_of(number) for number in numbers if _works_in(number, server.home))
    return frozenset(pid for pid in found if pid is not None and alive(pid))


def pid_of(number: int) -> Pid | None:
    """The process that has this number now."""
    try:
        fields = PROC.joinpath(str(number), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Pid(number, int(fields[19]))


def remove(home: Path) -> None:
    """Remove a directory of ours; leave any other."""
    if (home / MARK).exists():
        shutil.rmtree(home, ignore_errors=True)


def _new_home(part: str) -> Path:
    """Under /tmp: another account than ours must be able to walk there."""
    home = Path(tempfile.mkdtemp(prefix=f"coherence-{part}-"))
    (home / MARK).touch()
    return home


def _until_it_answers(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = monotonic() + START_S
    while not PARTS[server.part].answers(server.port, server.password):
        _wait(server, POLL_S)
        silent = process.returncode is None
        if not silent or monotonic() > until:
            what = "did not answer in time" if silent else f"ended with {process.returncode}"
            last = (server.home / "log").read_text(errors="replace").splitlines()[-5:]
            raise DidNotStart("\n".join((f"{server.part} {what}:", *last)), silent=silent)


def _wait(server: Server, seconds: float) -> None:
    """Wait a moment; a child of ours that has ended is buried."""
    if server.process is None:
        sleep(min(seconds, POLL_S))
        return
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(seconds)


def _works_in(number: int, home: Path) -> bool:
    try:
        return PROC.joinpath(str(number), "cwd").readlink().is_relative_to(home)
    except OSError:
        return False
