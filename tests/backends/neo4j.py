"""Neo4j Community, started from its jars; Bolt on loopback, and nothing else."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from neo4j import GraphDatabase
from neo4j.exceptions import AuthError, DriverError, Neo4jError

from tests.backends.jars import alone, archive_of, jars, java, prepare_jars, prepare_java
from tests.backends.parts import Launch, Missing
from tests.backends.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.backends.jars import Java
    from tests.backends.parts import Say

PART: Final = "neo4j"
STOP: Final = signal.SIGTERM
USER: Final = "neo4j"
ARCHIVE_S: Final = 180
POLL_S: Final = 0.2
STOP_S: Final = 30
ASK_S: Final = 3.0
# A new server refuses the password that it is about to get: that must not lock the account.
CONFIGURATION: Final = """\
server.bolt.listen_address=127.0.0.1:{port}
server.http.enabled=false
server.https.enabled=false
server.memory.pagecache.size=128m
dbms.usage_report.enabled=false
dbms.security.auth_max_failed_attempts=0
db.tx_log.preallocate=false
internal.dbms.bolt.netty_server_shutdown_quiet_period=0
"""


def prepare(say: Say) -> None:
    """Java and the jars are there, and the archive of their classes."""
    program = prepare_java(say)
    with alone():
        some = prepare_jars(say)
        archive = archive_of(some, program)
        if not archive.exists():
            say("neo4j: archiving the classes of the server (once, half a minute) ...")
            _make_archive(program, some, archive)


def create(home: Path, password: str) -> None:
    """Folders only: the first answer sets the password, which spares starting a JVM for it."""
    (home / "conf").mkdir()
    (home / "tmp").mkdir()


def launch(home: Path, port: int) -> Launch:
    """In the foreground, as ourselves: the jars lie where others may not read."""
    program, some = java(), jars()
    options = (f"-XX:SharedArchiveFile={archive_of(some, program)}", "-Xshare:auto", *_compiler())
    return _launch(program, some, home, port, *options)


def answers(port: int, password: str) -> bool:
    """The database takes queries with the password; a new server is given it first."""
    try:
        # The driver would wait and try again while the port is closed.
        with socket.create_connection(("127.0.0.1", port), timeout=ASK_S):
            pass
        try:
            _query(port, password, "RETURN 1", database="neo4j")
        except AuthError:
            _query(port, "neo4j", "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password", password=password)
            _query(port, password, "RETURN 1", database="neo4j")
    except (OSError, DriverError, Neo4jError):
        return False
    return True


def variables(port: int, password: str) -> Mapping[str, str]:
    """A direct connection: there is no cluster to route in."""
    return {"NEO4J_URI": f"bolt://127.0.0.1:{port}", "NEO4J_USER": USER, "NEO4J_PASSWORD": password}


def _query(port: int, secret: str, text: str, *, database: str = "system", **parameters: str) -> None:
    with GraphDatabase.driver(
        f"bolt://127.0.0.1:{port}",
        auth=(USER, secret),
        connection_timeout=ASK_S,
        connection_acquisition_timeout=ASK_S,
        max_transaction_retry_time=0,
    ) as driver:
        driver.execute_query(text, parameters, database_=database)


def _make_archive(program: Java, some: Sequence[Path], archive: Path) -> None:
    """Start a server, ask it something, and stop it: as it ends it writes down the classes that it had loaded."""
    half = archive.with_suffix(".half")
    with tempfile.TemporaryDirectory(prefix="coherence-neo4j-") as scratch:
        home, port = Path(scratch), free_port()
        create(home, "")
        how = _launch(program, some, home, port, f"-XX:ArchiveClassesAtExit={half}")
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(
                how.command, env=how.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home
            )
            try:
                _warm(port, server)
                server.terminate()
                server.wait(STOP_S)
            finally:
                server.kill()
                server.wait()
        if not half.exists():
            said = ((home / "log").read_text(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise Missing(
                PART, f"the server did not start from its jars ({said})", "remove the cached jars, or set NEO4J_URI"
            )
    half.rename(archive)


def _warm(port: int, server: subprocess.Popen[bytes]) -> None:
    until, password = monotonic() + ARCHIVE_S, secrets.token_urlsafe()
    while server.poll() is None and monotonic() < until and not answers(port, password):
        with suppress(subprocess.TimeoutExpired):
            server.wait(POLL_S)


def _launch(program: Java, some: Sequence[Path], home: Path, port: int, *options: str) -> Launch:
    (home / "conf/neo4j.conf").write_text(CONFIGURATION.format(port=port))
    command = (
        program.program,
        *("-Xmx1g", "-Dlog4j2.disable.jmx=true", f"-Djava.io.tmpdir={home / 'tmp'}"),
        *options,
        *("--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"),
        *("-cp", ":".join(map(str, some)), "org.neo4j.server.CommunityEntryPoint"),
        *(f"--home-dir={home}", f"--config-dir={home / 'conf'}"),
    )
    return Launch(command, {"PATH": os.defpath, "HOME": str(home)})


def _compiler() -> Sequence[str]:
    """The quick compiler alone: a server of the tests lives for minutes. Benchmarks want both."""
    return () if os.environ.get("COHERENCE_BACKENDS_FOR") == "bench" else ("-XX:TieredStopAtLevel=1",)
