"""`python -m tests.backends` and the servers of a test run, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.backends.fixtures import REDIS
from tests.backends.server import processes
from tests.backends.state import State
from tests.serving import PROC, command_line, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.anyio, pytest.mark.slow, REDIS]

# Holds a shared server and one of its own, says where they are, and waits.
HOLDING = """
import sys
from tests.backends.sharing import Connection, own_server
with own_server("redis") as own:
    shared = Connection().ask("share", part="redis")["variables"]
    print(own.variables["REDIS_URL"], shared["REDIS_URL"], flush=True)
    sys.stdin.read()
"""
NEEDING = """
import pytest
def test_one(redis_url): pass
def test_two(redis_url): pass
def test_other(): pass
"""


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Of a run of its own, whatever run we are in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "REDIS_URL"))}
    return inherited | {"XDG_STATE_HOME": str(tmp_path), "COHERENCE_REQUIRE_BACKENDS": ""}


def backends(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.backends", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answers(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def state_of(environment: Mapping[str, str]) -> State:
    """What the one run under this environment has noted."""
    (directory,) = (Path(environment["XDG_STATE_HOME"]) / "coherence/runs").iterdir()
    return State(directory)


def keepers_of(environment: Mapping[str, str]) -> list[int]:
    """Processes that were started with the directory of this environment's run."""
    numbers = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    return [number for number in numbers if environment["XDG_STATE_HOME"] in command_line(number)]


def come_and_go(environment: Mapping[str, str]) -> None:
    """A run that needs no server but begins and ends like any."""
    subprocess.run(
        [sys.executable, "-c", "from tests.backends.sharing import Connection; Connection().leave()"],
        cwd=ROOT,
        env=environment,
        check=True,
    )


@pytest.fixture
def holder(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


async def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    async with asyncio.timeout(30):
        return (await asyncio.to_thread(process.stdout.readline)).split()


def test_the_lines_can_be_evaluated_by_a_shell_and_down_ends_what_up_started(environment: Mapping[str, str]) -> None:
    up = backends(environment, "up", "--only", "redis")
    try:
        shell = subprocess.run(
            ["sh", "-c", f"{up.stdout}\nprintenv REDIS_URL"], capture_output=True, text=True, check=True
        )
        url = shell.stdout.strip()
        server = State(Path(environment["XDG_STATE_HOME"]) / "coherence/backends").servers[0]
        again = backends(environment, "up", "--only", "redis")
        shown = backends(environment, "env", "--json")

        assert answers(url)
        assert again.stdout == up.stdout
        assert json.loads(shown.stdout) == {"REDIS_URL": url}
        assert server.home.exists()
    finally:
        down = backends(environment, "down")

    assert down.returncode == 0
    assert not answers(url)
    assert not server.home.exists()
    assert backends(environment, "env").returncode == 1


def test_the_password_stands_in_no_command_line(environment: Mapping[str, str]) -> None:
    backends(environment, "up", "--only", "redis")
    try:
        server = State(Path(environment["XDG_STATE_HOME"]) / "coherence/backends").servers[0]
        command = Path(f"/proc/{server.pid.number}/cmdline").read_text()
        listed = subprocess.run(["stat", "-c", "%a", str(server.home)], capture_output=True, text=True, check=True)

        assert "redis-server" in command
        assert server.password not in command
        assert listed.stdout == "700\n"
    finally:
        backends(environment, "down")


async def test_the_servers_of_a_run_end_with_a_process_that_is_killed(
    holder: subprocess.Popen[str], environment: Mapping[str, str]
) -> None:
    urls = await said(holder)
    servers = state_of(environment).servers
    alive = [answers(url) for url in urls]

    holder.kill()

    await until(lambda: not any(map(processes, servers)))
    assert alive == [True, True]
    await until(lambda: not any(server.home.exists() for server in servers))


async def test_what_a_killed_keeper_left_is_ended_by_the_next_run(
    holder: subprocess.Popen[str], environment: Mapping[str, str]
) -> None:
    await said(holder)
    state = state_of(environment)
    keepers = keepers_of(environment)
    os.kill(keepers[0], signal.SIGKILL)
    holder.kill()
    left = [bool(processes(server)) for server in state.servers]

    await asyncio.to_thread(come_and_go, environment)

    assert len(keepers) == 1
    assert left == [True, True]
    assert not any(map(processes, state.servers))
    assert not list((Path(environment["XDG_STATE_HOME"]) / "coherence/runs").iterdir())


@pytest.mark.parametrize(
    ("required", "code", "said"),
    [
        ("", 0, "2 tests skipped: missing server: redis: redis-server is not on the path; install"),
        ("neo4j,redis", 1, "COHERENCE_REQUIRE_BACKENDS names redis: redis: redis-server is not on the path; install"),
        ("redis,oracle", 4, "COHERENCE_REQUIRE_BACKENDS names oracle; there are postgres, redis, neo4j"),
    ],
)
def test_a_missing_server_is_a_skip_that_is_seen_or_a_failure_when_it_is_required(
    tmp_path: Path, environment: Mapping[str, str], required: str, code: int, said: str
) -> None:
    (tmp_path / "test_it.py").write_text(NEEDING)

    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.backends.plugin",
            "-c",
            str(ROOT / "pyproject.toml"),
            "test_it.py",
        ],
        cwd=tmp_path,
        env={**environment, "PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "COHERENCE_REQUIRE_BACKENDS": required},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == code
    assert said in run.stdout + run.stderr
