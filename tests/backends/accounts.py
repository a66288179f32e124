"""The account that servers run as: not root, which PostgreSQL refuses and no server needs."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UNPRIVILEGED: Final = ("postgres", "nobody")


class Identity(TypedDict, total=False):
    """What `subprocess` takes to run something as another account."""

    user: str
    group: int
    extra_groups: Sequence[int]


def unprivileged() -> str | None:
    """The account to drop to when we are root, else None."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in known)


def identity(user: str | None) -> Identity:
    """That account and its group alone; ours for None."""
    return {} if user is None else Identity(user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[])


def give(home: Path, user: str | None) -> None:
    """Make `home` and what stands below it that account's."""
    if user is not None:
        for path in (home, *home.rglob("*")):
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
