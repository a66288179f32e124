"""The data directory: its lock, and the files beside the stores."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import DataRefused
from coherence_grpc.tokens import Key, Signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE: Final = "lock"
KEY_FILE: Final = "cursor.key"
_KEY_BYTES: Final = 32


def make_directory(directory: Path) -> None:
    """Makes the data directory, for its owner only, unless it is there.

    Raises:
        DataRefused: it can't be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataRefused(_unusable(directory)) from error


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Holds the data directory, made if need be, against every other process.

    Raises:
        DataRefused: another process holds it, or it can't be written.
    """
    make_directory(directory)
    try:
        held = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataRefused(_unusable(directory)) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{directory} is in use by another process; stop that server, or choose another data directory"
            raise DataRefused(message) from error
        yield
    finally:
        # The lock goes with the descriptor; the file stays, or two could lock two files of one name.
        os.close(held)


def load_signer(directory: Path) -> Signer:
    """Signs with the directory's first key and accepts all of them; the first is made when there is none.

    A line of the file is a key's number and its secret in hex; put a new one on top to rotate.

    Raises:
        DataRefused: the file holds something else.
    """
    path = directory / KEY_FILE
    if not path.exists():
        replace_file(path, f"1 {secrets.token_hex(_KEY_BYTES)}\n".encode())
    try:
        keys = [_key(line) for line in path.read_text("ascii").splitlines() if line.strip()]
    except (ValueError, OSError) as error:
        raise DataRefused(_bad_keys(path)) from error
    if not keys:
        raise DataRefused(_bad_keys(path))
    return Signer(keys)


def replace_file(path: Path, content: bytes) -> None:
    """Puts a file in place, for its owner only: whole and durable, or not at all.

    Raises:
        DataRefused: the directory can't be written.
    """
    try:
        _replace_file(path, content)
    except OSError as error:
        raise DataRefused(_unusable(path.parent)) from error


def _replace_file(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _key(line: str) -> Key:
    number, secret = line.split()
    key = Key(int(number), bytes.fromhex(secret))
    if not 0 <= key.key_id <= 255 or len(key.secret) < _KEY_BYTES:  # noqa: PLR2004 - a token has a byte for the number
        raise ValueError(line)
    return key


def _bad_keys(path: Path) -> str:
    return (
        f"{path} holds no signing keys; restore it from a backup, or remove it:"
        " cursors and page tokens issued so far end with it"
    )


def _unusable(directory: Path) -> str:
    return f"{directory} can't be made or written; check who owns it, or choose another data directory"
