"""What we have started, written down: so that a later command ends just that."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from tests.backends.server import Server, end, remove
from tests.serving import Pid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def state_home() -> Path:
    """Where the user's programs keep their state, by the XDG rules."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "coherence"


class State:
    """The servers noted in a directory. Only its owner can read it: it holds passwords.

    A process is told from a later one with the same number by its start time, and that by the boot it counts from.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "state.json"
        self._one_at_a_time = Lock()
        self.servers: list[Server] = _noted(self._file)

    def note(self, server: Server) -> None:
        """Remember it, in place of an earlier one in the same directory."""
        with self._one_at_a_time:
            self.servers = [other for other in self.servers if other.home != server.home] + [server]
            self._save()

    def end(self, server: Server) -> None:
        """End it and forget it."""
        end(server)
        with self._one_at_a_time:
            self.servers = [other for other in self.servers if other.home != server.home]
            self._save()

    def forget_ended(self) -> None:
        """Drop the servers that don't run any more, with their files and what a killed one left running."""
        for server in [server for server in self.servers if not server.running]:
            self.end(server)

    def _save(self) -> None:
        """Whole or not at all."""
        half = self._file.with_suffix(".half")
        half.touch(mode=0o600)
        half.write_text(json.dumps({"boot": _boot(), "servers": [_row(server) for server in self.servers]}))
        half.replace(self._file)


@contextmanager
def locked(directory: Path) -> Iterator[State]:
    """The state in that directory, for one process at a time."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield State(directory)


def _noted(file: Path) -> list[Server]:
    """Nothing for a file that is not there, or not whole: it was not written by us."""
    try:
        noted = json.loads(file.read_text())
        servers = [_server(row) for row in noted["servers"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
    if noted["boot"] == _boot():
        return servers
    for server in servers:  # the numbers mean nothing after a restart of the machine
        remove(server.home)
    return []


def _row(server: Server) -> Mapping[str, object]:
    return {
        "part": server.part,
        "home": str(server.home),
        "port": server.port,
        "password": server.password,
        "pid": server.pid.number,
        "started": server.pid.started,
    }


def _server(row: Mapping[str, str | int]) -> Server:
    return Server(
        str(row["part"]),
        Path(str(row["home"])),
        int(row["port"]),
        str(row["password"]),
        Pid(int(row["pid"]), int(row["started"])),
    )


def _boot() -> str:
    return BOOT.read_text().strip()
