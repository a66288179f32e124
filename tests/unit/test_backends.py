"""The servers of development and tests: what is started, ended and said, without starting one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.backends import installing, jars, neo4j, postgres, redis
from tests.backends.__main__ import main
from tests.backends.parts import NAMES, Missing
from tests.backends.ports import PORTS, free_port
from tests.backends.server import MARK, Server, end, pid_of, processes
from tests.backends.state import State, locked
from tests.serving import Pid, alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backends.parts import Part

# Says that it runs, and waits for its end of the world.
WAITING = "import sys; print(flush=True); sys.stdin.read()"
# The same, with a child of its own that nobody waits for.
FORKING = "import os; os.fork(); " + WAITING


def quiet(_line: str) -> None:
    pass


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / MARK).touch()
    return tmp_path / "home"


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path: nothing is in it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setattr(jars, "DEBIAN", tmp_path / "nowhere")
    return folder


@pytest.fixture
def child(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def a_server(home: Path, pid: Pid) -> Server:
    return Server("redis", home, 6379, "secret", pid)


def pid(process: subprocess.Popen[bytes]) -> Pid:
    found = pid_of(process.pid)
    assert found
    return found


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_what_was_noted_is_found_again_and_only_its_owner_can_read_it(tmp_path: Path, home: Path) -> None:
    server = a_server(home, Pid(1, 2))
    with locked(tmp_path / "state") as state:
        state.note(server)

    with locked(tmp_path / "state") as again:
        found = again.servers

    assert found == [server]
    assert (tmp_path / "state/state.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_ending_a_server_ends_all_that_works_in_its_directory(home: Path, child: subprocess.Popen[bytes]) -> None:
    server = Server("redis", home, 6379, "secret", pid(child), child)
    family = processes(server)

    end(server)

    assert len(family) == 2
    assert not any(map(alive, family))
    assert not home.exists()


def test_a_process_that_got_the_number_of_an_ended_server_is_left_alone(tmp_path: Path, home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdin=subprocess.PIPE, cwd=tmp_path) as other:
        number, started = pid(other)
        with locked(tmp_path / "state") as state:
            state.note(a_server(home, Pid(number, started - 1)))

        with locked(tmp_path / "state") as again:
            again.forget_ended()

        assert alive(Pid(number, started))
        assert not home.exists()
        assert again.servers == State(tmp_path / "state").servers == []
        other.kill()


def test_what_a_killed_server_left_running_is_ended_with_it(
    tmp_path: Path, home: Path, child: subprocess.Popen[bytes]
) -> None:
    server = a_server(home, pid(child))
    left = processes(server) - {server.pid}
    child.kill()
    child.wait()

    with locked(tmp_path / "state") as state:
        state.note(server)
        state.forget_ended()

    assert len(left) == 1
    assert not any(map(alive, left))


def test_numbers_noted_before_the_machine_restarted_mean_nothing(
    tmp_path: Path, home: Path, child: subprocess.Popen[bytes]
) -> None:
    with locked(tmp_path / "state") as state:
        state.note(a_server(home, pid(child)))
    file = tmp_path / "state/state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"boot": "another"}))

    with locked(tmp_path / "state") as again:
        found = again.servers

    assert found == []
    assert alive(pid(child))
    assert not home.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"servers": [{}]}'])
def test_a_state_file_that_is_not_whole_names_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    state = State(tmp_path)

    assert state.servers == []


def test_a_directory_that_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()

    end(a_server(tmp_path / "work", Pid(1, -1)))

    assert (tmp_path / "work").exists()


def test_ports_are_free_and_below_those_of_leaving_connections() -> None:
    port = free_port()

    assert port in PORTS


@pytest.mark.parametrize(
    ("part", "lacks", "remedy"),
    [
        (postgres, "postgres: initdb and postgres are neither on the path nor in", "apt-get install postgresql"),
        (redis, "redis: redis-server is not on the path", "apt-get install redis-server"),
        (neo4j, "neo4j: java is not on the path", "apt-get install default-jre-headless"),
    ],
)
def test_a_missing_program_is_one_line_with_the_remedy(bare_path: Path, part: Part, lacks: str, remedy: str) -> None:
    with pytest.raises(Missing) as missing:
        part.prepare(quiet)

    assert str(missing.value).startswith(lacks)
    assert remedy in str(missing.value)
    assert "\n" not in str(missing.value)


@pytest.mark.parametrize(
    ("version", "said"), [("11.0.2+9", "java is 11.0.2+9, not 17 or 21"), ("nothing", "java is of an unknown version")]
)
def test_a_java_that_the_server_does_not_run_on_is_named(bare_path: Path, version: str, said: str) -> None:
    put(bare_path, "java", f'echo "OpenJDK Runtime Environment (build {version})" >&2')

    with pytest.raises(Missing, match=r"Java 17 or 21") as missing:
        neo4j.prepare(quiet)

    assert said in str(missing.value)


def test_jars_that_can_not_be_had_are_one_line_with_mavens_reason(bare_path: Path) -> None:
    put(bare_path, "java", 'echo "(build 17.0.1+1)" >&2')
    put(bare_path, "mvn", "echo '[ERROR] no route to the repository'; echo more; exit 1")

    with pytest.raises(Missing) as missing:
        neo4j.prepare(quiet)

    assert "Maven could not download the jars ([ERROR] no route to the repository)" in str(missing.value)
    assert "\n" not in str(missing.value)


def test_without_maven_the_remedy_names_it(bare_path: Path) -> None:
    put(bare_path, "java", 'echo "(build 17.0.1+1)" >&2')

    with pytest.raises(Missing, match=r"neither neo4j nor mvn is on the path; .* apt-get install maven"):
        neo4j.prepare(quiet)


@pytest.fixture
def policy(bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine is Debian and we are root, as far as installing can tell."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(installing, "POLICY", tmp_path / "policy-rc.d")
    return tmp_path / "policy-rc.d"


def test_root_on_debian_installs_what_lacks_and_starts_no_service(bare_path: Path, policy: Path) -> None:
    put(
        bare_path,
        "apt-get",
        f"test -x {policy} && : > {bare_path}/redis-server && /bin/chmod +x {bare_path}/redis-server",
    )
    said: list[str] = []

    redis.prepare(said.append)

    assert said == ["redis: installing redis-server with apt-get (once) ..."]
    assert not policy.exists()


def test_old_package_lists_are_renewed_once(bare_path: Path, policy: Path) -> None:
    put(
        bare_path,
        "apt-get",
        f'case "$*" in *update) : > {bare_path}/new ;; *) test -e {bare_path}/new && : > {bare_path}/redis-server '
        f"&& /bin/chmod +x {bare_path}/redis-server ;; esac",
    )

    redis.prepare(quiet)

    assert (bare_path / "redis-server").exists()


def test_an_installation_that_fails_is_one_line_with_the_last_that_was_said(bare_path: Path, policy: Path) -> None:
    put(bare_path, "apt-get", "echo first; echo 'E: no such package'; exit 100")

    with pytest.raises(Missing, match=r"apt-get could not install redis-server \(E: no such package\)"):
        redis.prepare(quiet)

    assert not policy.exists()


def test_a_policy_that_was_there_stays_as_it_is(bare_path: Path, policy: Path) -> None:
    policy.write_text("theirs")
    put(bare_path, "apt-get", "exit 100")

    with pytest.raises(Missing):
        redis.prepare(quiet)

    assert policy.read_text() == "theirs"


def test_without_servers_there_are_no_variables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["env", "--state", str(tmp_path)])

    assert code == 1
    assert capsys.readouterr() == ("", "no server is running; start them with `make backends`\n")


def test_ending_nothing_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["down", "--state", str(tmp_path)])

    assert code == 0
    assert capsys.readouterr().err == "no server of ours is running\n"


def test_every_missing_server_is_said_at_once(bare_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["up", "--state", str(bare_path / "state")])

    assert code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(":")[:2] for line in said.err.splitlines()] == [["missing", f" {name}"] for name in NAMES]


def test_a_part_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--only", "redis,oracle"])

    assert "unknown: oracle; there are postgres, redis, neo4j" in capsys.readouterr().err
