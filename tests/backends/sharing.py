"""Servers for the processes of one run: shared ones, started once, and ones of a test's own, to be killed."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.backends.keeper import LOCK, SOCKET
from tests.backends.parts import Missing
from tests.backends.server import DidNotStart, Server, kill, pid_of, signal_all
from tests.backends.state import state_home
from tests.serving import Pid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Answer: TypeAlias = "Mapping[str, Any]"
ROOT: Final = Path(__file__).resolve().parents[2]
CONNECT_S: Final = 30.0
POLL_S: Final = 0.02
START_S: Final = 150.0
# A machine that has nothing installs packages and downloads jars first.
PREPARE_S: Final = 1200.0
LEAVE_S: Final = 30.0
MEASURES: Final = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


class Connection:
    """A connection to the keeper of this run, which lives as long as any."""

    def __init__(self) -> None:
        self._socket = _connected(_run_directory())
        self._answers = self._socket.makefile("rb")
        self._one_at_a_time = Lock()

    def ask(self, do: str, *, within_s: float = START_S, **request: str) -> Answer:
        """The keeper's answer.

        Raises:
            Missing: the server's program is not there.
            DidNotStart: it did not; or the keeper is gone.
        """
        with self._one_at_a_time:
            self._socket.settimeout(within_s)
            self._socket.sendall(json.dumps({"do": do, **request}).encode() + b"\n")
            line = self._answers.readline()
        answer: Answer = json.loads(line) if line else {"failed": "the keeper of the servers is gone", "silent": True}
        if "missing" in answer:
            raise Missing(*answer["missing"])
        if "failed" in answer:
            raise DidNotStart(answer["failed"], silent=answer["silent"])
        return answer

    def leave(self) -> None:
        """Close it; what was its own has ended by then, and everything if it was the last."""
        try:
            self.ask("leave", within_s=LEAVE_S)
        except (OSError, DidNotStart):
            pass  # the keeper is gone: what it kept is cleared by the next one
        finally:
            self._answers.close()
            self._socket.close()


class Own:
    """A server that one test may treat as it likes; it ends with the test.

    The methods block: in a running loop call them through `asyncio.to_thread`.
    """

    def __init__(self, connection: Connection, part: str) -> None:
        self._connection = connection
        self.server = _server(part, connection.ask("own", within_s=PREPARE_S, part=part))

    @property
    def variables(self) -> Mapping[str, str]:
        """How clients find it."""
        return self.server.variables

    def kill(self) -> None:
        """Kill it (SIGKILL), all its processes; what it has on disk stays."""
        kill(self.server)

    def start_again(self) -> None:
        """Start it over the same files, on the same port; return when it answers."""
        self.server = _server(self.server.part, self._connection.ask("again"))

    def freeze(self) -> None:
        """Stop it (SIGSTOP): connections stay and nothing answers."""
        signal_all(self.server, SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        signal_all(self.server, SIGCONT)


@contextmanager
def own_server(part: str) -> Iterator[Own]:
    """A new server of that kind for the caller alone.

    Raises:
        Missing: its program is not there.
        DidNotStart: it did not.
    """
    connection = Connection()
    try:
        yield Own(connection, part)
    finally:
        connection.leave()


def _server(part: str, row: Answer) -> Server:
    return Server(part, Path(row["home"]), row["port"], row["password"], Pid(row["pid"], row["started"]))


def _run_directory() -> Path:
    """One for all workers of a pytest-xdist run, else one for this process."""
    own = pid_of(os.getpid())
    assert own, "we are there"
    name = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{own.number}-{own.started}"
    return state_home() / "runs" / name


def _connected(directory: Path) -> socket.socket:
    """A connection to the run's keeper; whoever gets its lock starts it."""
    until = monotonic() + CONNECT_S
    while monotonic() < until:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = _try_to_connect(directory)
        if connection is not None:
            return connection
        if not _try_to_start(directory):
            sleep(POLL_S)
    message = f"the keeper of the servers did not start within {CONNECT_S:.0f} s: see {directory}/log"
    raise DidNotStart(message, silent=True)


def _try_to_connect(directory: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    folder = os.open(directory, os.O_RDONLY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(folder)
    return connection


def _try_to_start(directory: Path) -> bool:
    """The lock passes to the keeper with the descriptor, and stays held for as long as it lives."""
    with (directory / LOCK).open("w") as lock, (directory / "log").open("ab") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_ino != (directory / LOCK).stat().st_ino:
                return False  # the keeper before has just removed it
        except OSError:
            return False
        theirs, ours = os.pipe()
        with os.fdopen(theirs, "rb") as ready:
            _spawn(directory, (lock.fileno(), ours), log.fileno())
            os.close(ours)
            return ready.readline() == b"ready\n"


def _spawn(directory: Path, passed: tuple[int, int], log: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in MEASURES}
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.backends.keeper", str(directory), str(passed[1])],
        pass_fds=passed,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    # It outlives us on purpose, so nobody waits for it.
    keeper.returncode = 0
