"""Programs from the path, or installed as root on Debian without starting their services."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.backends.parts import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backends.parts import Say

# Debian asks this file whether a package that is being installed may start its service.
POLICY: Final = Path("/usr/sbin/policy-rc.d")
APT_S: Final = 600
APT: Final = ("apt-get", "-o", "DPkg::Lock::Timeout=120")


def installable() -> bool:
    """Packages can be installed from here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(part: str, packages: tuple[str, ...], say: Say) -> None:
    """Install Debian packages; none of their services is started.

    Raises:
        Missing: apt-get failed, with the last line that it said.
    """
    names = " ".join(packages)
    say(f"{part}: installing {names} with apt-get (once) ...")
    with _no_service_started():
        said = _apt("install", "-y", "--no-install-recommends", *packages)
        if said is not None:  # the package lists may be old
            said = _apt("update") or _apt("install", "-y", "--no-install-recommends", *packages)
    if said is not None:
        raise Missing(part, f"apt-get could not install {names} ({said})", "see what `apt-get install` says")


def _apt(*arguments: str) -> str | None:
    """None when it went well, else the last line that apt-get said."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        ended = subprocess.run(
            [*APT, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=APT_S,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {APT_S} s"
    return None if ended.returncode == 0 else (ended.stdout.strip().splitlines() or ["no reason given"])[-1]


@contextmanager
def _no_service_started() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)
