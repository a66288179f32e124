"""Redis from the path; it keeps nothing on disk, since nothing in it is the truth."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, Final

import redis

from tests.backends.accounts import give, unprivileged
from tests.backends.installing import install, installable
from tests.backends.parts import Launch, Missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.backends.parts import Say

PART: Final = "redis"
STOP: Final = signal.SIGTERM
ASK_S: Final = 1.0
# The password stands in a file: a command line can be read by every user of the machine.
CONFIGURATION: Final = """\
bind 127.0.0.1
save ""
appendonly no
daemonize no
requirepass {password}
dir {home}
"""


def prepare(say: Say) -> None:
    """redis-server is there, else apt-get's."""
    if shutil.which("redis-server") is None and installable():
        install(PART, ("redis-server",), say)
    _program()


def create(home: Path, password: str) -> None:
    """Only a configuration."""
    (home / "redis.conf").write_text(CONFIGURATION.format(home=home, password=password))
    give(home, unprivileged())


def launch(home: Path, port: int) -> Launch:
    """In the foreground."""
    command = (_program(), str(home / "redis.conf"), "--port", str(port))
    return Launch(command, {"PATH": os.defpath, "HOME": str(home)}, unprivileged())


def answers(port: int, password: str) -> bool:
    """It answers PING."""
    url = variables(port, password)["REDIS_URL"]
    client = redis.Redis.from_url(url, socket_timeout=ASK_S, socket_connect_timeout=ASK_S)
    with client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def variables(port: int, password: str) -> Mapping[str, str]:
    """Its first database."""
    return {"REDIS_URL": f"redis://:{password}@127.0.0.1:{port}/0"}


def _program() -> str:
    program = shutil.which("redis-server")
    if program is None:
        raise Missing(
            PART,
            "redis-server is not on the path",
            "install Redis 7 or newer (Debian: apt-get install redis-server), or set REDIS_URL",
        )
    return program
