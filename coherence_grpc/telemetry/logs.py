"""Structured log lines on stderr: JSON for machines, short lines on a terminal.

A line's fields travel as `extra={"fields": {...}}`, so that a message is a constant and can be searched for.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS: Final[Mapping[str, int]] = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_OURS: Final = ("coherence_grpc", "subgraph")
# An error for each connection lost: that a store is away is said once, by what stops asking it.
_SAID_BY_US: Final = ("neo4j.io", "neo4j.pool", "psycopg.pool")


def configure(level: str = "info", *, stream: TextIO | None = None, human: bool | None = None) -> None:
    """Log our lines of at least this level, and warnings of libraries, to `stream` (stderr).

    `human` None asks the stream whether it is a terminal. Calling it again replaces what it did before.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanLines() if (stream.isatty() if human is None else human) else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(LEVELS[level])
    for name in _SAID_BY_US:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def new_error_id() -> str:
    """A short random id that a caller can quote and the log can be searched for."""
    return secrets.token_hex(8)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields, and the traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class HumanLines(logging.Formatter):
    """Time, level, message and the fields as key=value; a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        # repr keeps what callers sent from starting a line of its own.
        fields = "".join(f" {key}={value!r}" for key, value in _fields(record).items())
        line = f"{clock} {record.levelname.lower()} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return fields
