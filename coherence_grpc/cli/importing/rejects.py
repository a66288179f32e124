"""The file of what was not stored: line number, reason and text of each, as JSON lines."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class RejectsFile:
    """Made with the first reject. Goes on after `kept_bytes` of what an earlier run wrote."""

    def __init__(self, path: Path, *, kept_bytes: int) -> None:
        self._path = path
        self._kept_bytes = kept_bytes
        self._stream: IO[bytes] | None = None
        if not kept_bytes:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing more is added."""
        if self._stream is not None:
            self._stream.close()

    def add(self, line: int, reason: str, message: str, text: str) -> None:
        """One line of the input that was not stored, and why."""
        record = {"line": line, "reason": reason, "message": message, "text": text}
        self._opened().write(json.dumps(record).encode() + b"\n")

    def size(self) -> int:
        """Its length, everything added so far included."""
        if self._stream is None:
            return self._kept_bytes
        self._stream.flush()
        return self._stream.tell()

    def _opened(self) -> IO[bytes]:
        if self._stream is None:
            self._stream = self._path.open("r+b" if self._kept_bytes else "wb")
            self._stream.truncate(self._kept_bytes)
            self._stream.seek(self._kept_bytes)
        return self._stream
