"""PostgreSQL from the path or Debian's own folder, durable as by default."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from tests.backends.accounts import give, identity, unprivileged
from tests.backends.installing import install, installable
from tests.backends.parts import Launch, Missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.backends.parts import Say

PART: Final = "postgres"
# "Immediate": no checkpoint, and none of its processes stays.
STOP: Final = signal.SIGQUIT
DEBIAN: Final = Path("/usr/lib/postgresql")
USER: Final = "coherence"
INITDB_S: Final = 60
ASK_S: Final = 2
# Several test processes keep a pool each, and a frozen client keeps its place.
CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 64MB
max_connections = 200
log_min_messages = warning
"""


def prepare(say: Say) -> None:
    """The programs initdb and postgres are there, else apt-get's."""
    if _folder() is None and installable():
        install(PART, ("postgresql",), say)
    _programs()


def create(home: Path, password: str) -> None:
    """An empty cluster whose one user, `coherence`, may do everything with the password."""
    secret = home / "password"
    secret.write_text(password)
    user = unprivileged()
    give(home, user)
    subprocess.run(
        [
            str(_programs() / "initdb"),
            *("--pgdata", str(home / "data"), "--username", USER, "--pwfile", str(secret)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        ],
        **identity(user),
        cwd=home,
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=INITDB_S,
    )
    secret.unlink()
    with (home / "data/postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION)


def launch(home: Path, port: int) -> Launch:
    """In the foreground."""
    program = str(_programs() / "postgres")
    return Launch((program, "-D", str(home / "data"), "-p", str(port)), _environment(home), unprivileged())


def answers(port: int, password: str) -> bool:
    """It takes queries: not while it is still recovering."""
    try:
        with psycopg.connect(variables(port, password)["POSTGRES_URI"], connect_timeout=ASK_S) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def variables(port: int, password: str) -> Mapping[str, str]:
    """The database `postgres` is there in every cluster."""
    return {"POSTGRES_URI": f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"}


def _programs() -> Path:
    folder = _folder()
    if folder is None:
        raise Missing(
            PART,
            f"initdb and postgres are neither on the path nor in {DEBIAN}/*/bin",
            "install PostgreSQL 15 or newer (Debian: apt-get install postgresql), or set POSTGRES_URI",
        )
    return folder


def _folder() -> Path | None:
    """Where initdb stands beside postgres: it runs the one next to itself. The newest of Debian's."""
    found = shutil.which("initdb")
    on_path = [Path(found).resolve().parent] if found else []
    own = sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return next((folder for folder in (*on_path, *own) if (folder / "postgres").exists()), None)


def _environment(home: Path) -> Mapping[str, str]:
    return {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}
