"""The jars of a Neo4j Community server, and an archive of its loaded classes that makes a start three times faster.

Jars come from the `neo4j` on the path, else from Maven; both are kept under the user's cache directory by version.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.backends.installing import install, installable
from tests.backends.parts import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.backends.parts import Say

PART: Final = "neo4j"
POM: Final = Path(__file__).with_name("neo4j-pom.xml")
JAVAS: Final = (17, 21)
DEBIAN: Final = Path("/usr/share/neo4j/lib")
COPY: Final = "dependency:copy-dependencies"
DOWNLOAD_S: Final = 600
ASK_S: Final = 30


class Java(NamedTuple):
    """A program and its build: an archive of classes serves only the very same one."""

    program: str
    build: str


def prepare_java(say: Say) -> Java:
    """The Java on the path, else apt-get's."""
    if shutil.which("java") is None and installable():
        install(PART, ("default-jre-headless",), say)
    return java()


def java() -> Java:
    """The Java on the path.

    Raises:
        Missing: there is none that this Neo4j runs on.
    """
    program = shutil.which("java")
    wanted = " or ".join(map(str, JAVAS))
    remedy = f"install Java {wanted} (Debian: apt-get install default-jre-headless), or set NEO4J_URI"
    if program is None:
        raise Missing(PART, "java is not on the path", remedy)
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=ASK_S).stderr
    build = re.search(r"\(build ((\d+)[^)]*)\)", said)
    if build is None or int(build[2]) not in JAVAS:
        raise Missing(PART, f"java is {build[1] if build else 'of an unknown version'}, not {wanted}", remedy)
    return Java(program, build[1])


def prepare_jars(say: Say) -> Sequence[Path]:
    """The jars, downloaded when neither Neo4j nor an earlier run left any."""
    if not jars():
        if shutil.which("mvn") is None and installable():
            install(PART, ("maven",), say)
        say(f"neo4j: downloading the jars of {_version()} with Maven (once, 123 MB) ...")
        _download(_cache() / f"neo4j-{_version()}")
    return jars()


def jars() -> Sequence[Path]:
    """Sorted, since an archive serves only the same class path; empty when there are none."""
    script = shutil.which("neo4j")
    folders = [_cache() / f"neo4j-{_version()}"]
    if script is not None:
        folders = [Path(script).resolve().parent.parent / "lib", DEBIAN, *folders]
    found = (sorted(folder.glob("*.jar")) for folder in folders)
    return next((some for some in found if any(map(_server, some))), [])


def archive_of(some: Sequence[Path], by: Java) -> Path:
    """Where the archive of these jars' classes belongs."""
    version = next(jar.stem.removeprefix("neo4j-server-") for jar in some if _server(jar))
    return _cache() / f"neo4j-{version}-java-{re.sub(r'[^0-9A-Za-z.]', '_', by.build)}.jsa"


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else downloads or archives at the same time."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "neo4j.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _server(jar: Path) -> bool:
    return jar.name.startswith("neo4j-server-")


def _version() -> str:
    found = re.search(r"<neo4j\.version>(.+)</", POM.read_text())
    assert found, "the pom names no version"
    return found[1]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coherence"


def _download(folder: Path) -> None:
    maven = shutil.which("mvn")
    remedy = "install Neo4j 5, or Maven for its jars (Debian: apt-get install maven), or set NEO4J_URI"
    if maven is None:
        raise Missing(PART, "neither neo4j nor mvn is on the path", remedy)
    # Half a download must not look like a whole one.
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    command = [maven, "-q", "-B", "-C", "-f", str(POM), COPY, "-DincludeScope=runtime", f"-DoutputDirectory={half}"]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Missing(PART, f"Maven had not downloaded the jars after {DOWNLOAD_S} s", remedy) from None
    if ended.returncode != 0:
        said = (ended.stdout.strip().splitlines() or ["no reason given"])[0]
        raise Missing(PART, f"Maven could not download the jars ({said})", remedy)
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)
