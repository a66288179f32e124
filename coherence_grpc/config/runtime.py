"""The runtime file: switches that can be turned while the service runs.

`{"switches": {"materialiser": "off"}}`: what the file leaves out has its default, and without a file all have.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.errors import FieldError, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

RELOAD_S: Final = 5.0
ON_OFF: Final = ("on", "off")
_log = logging.getLogger(__name__)


class Switch(NamedTuple):
    """A runtime switch: on or off, or one of its own `values`."""

    default: str
    meaning: str
    values: tuple[str, ...] = ON_OFF


SWITCHES: Final[Mapping[str, Switch]] = {
    "materialiser": Switch("on", "Scores are kept up to date and published; off: reads compute them from the store"),
    "read_mode": Switch(
        "cache",
        "Where scores are read: cache (memory, then the cache, then the rows), postgres (the published rows), "
        "graph (computed from the signals)",
        ("cache", "postgres", "graph"),
    ),
    "cache": Switch("off", "Published scores are also kept in Redis, and looked for there first"),
    "dedupe_mode": Switch(
        "store", "What is asked first whether a signal is known: store, or the marks in redis", ("store", "redis")
    ),
    "free_text": Switch("off", "The subgraph accepts GraphQL documents that are not persisted operations"),
}


class Runtime:
    """The runtime file's switches, as last read; a file that can't be read leaves the last good ones in force."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            SettingsInvalid: it is there and can't be used; there is no last good one yet.
        """
        self._path = path
        self._refused = ""
        self.sha256 = ""
        self.switches: Mapping[str, str] = {}
        self._take(_content(path))

    def on(self, name: str) -> bool:
        """The switch is on."""
        return self.switches[name] == "on"

    def value(self, name: str) -> str:
        """Where the switch stands."""
        return self.switches[name]

    def reload(self) -> None:
        """Read the file again; a bad one is logged once and changes nothing."""
        try:
            self._take(_content(self._path))
        except SettingsInvalid as invalid:
            if invalid.message != self._refused:
                _log.warning("runtime file refused, the last good one stays in force: %s", invalid.message)
            self._refused = invalid.message
        else:
            self._refused = ""

    async def keep_reading(self) -> None:
        """Read the file again every 5 s, for ever."""
        while True:
            await asyncio.sleep(RELOAD_S)
            self.reload()

    def _take(self, content: bytes | None) -> None:
        self.switches = _parse(self._path, content)
        self.sha256 = "" if content is None else sha256(content).hexdigest()


def read_switches(path: Path) -> Mapping[str, str]:
    """Every switch and its value in the file, defaults filled in.

    Raises:
        SettingsInvalid: the file can't be used.
    """
    return _parse(path, _content(path))


def edit_switches(path: Path, changes: Mapping[str, str]) -> Mapping[str, str]:
    """Set these switches in the file, which is replaced at once; every switch and its value as they are then.

    Raises:
        SettingsInvalid: a name or value is unknown, or the file can't be used; it stays as it is.
    """
    problems = [p for name, value in changes.items() if (p := _problem(name, value))]
    if problems:
        raise SettingsInvalid("; ".join(f"{p}: {problem}" for p, problem in problems), fields=problems)
    document = _document(path, _content(path))
    document["switches"] = {**document.get("switches", {}), **changes}
    content = json.dumps(document, indent=2).encode() + b"\n"
    switches = _parse(path, content)
    _replace(path, content)
    return switches


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"runtime_file: {path} can't be read ({error.strerror}); make it readable or remove it"
        raise SettingsInvalid(message) from error


def _document(path: Path, content: bytes | None) -> dict[str, Any]:
    try:
        document = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        message = f"runtime_file: {path} is not JSON; mend it or remove it"
        raise SettingsInvalid(message) from error
    if not isinstance(document, dict) or not isinstance(document.get("switches", {}), dict):
        message = f'runtime_file: {path} does not read {{"switches": {{"name": "on"}}}}; mend it or remove it'
        raise SettingsInvalid(message)
    return document


def _parse(path: Path, content: bytes | None) -> Mapping[str, str]:
    given = _document(path, content).get("switches", {})
    problems = [p for name, value in given.items() if (p := _problem(name, value))]
    if problems:
        raise SettingsInvalid("; ".join(f"runtime_file {path}: {p}: {text}" for p, text in problems), fields=problems)
    return {name: given.get(name, switch.default) for name, switch in SWITCHES.items()}


def _problem(name: str, value: object) -> FieldError | None:
    if name not in SWITCHES:
        return FieldError(name, f"there is no such switch; the switches are {', '.join(SWITCHES)}")
    values = SWITCHES[name].values
    if value not in values:
        return FieldError(name, f"{value!r} is none of its values, which are {', '.join(values)}")
    return None


def _replace(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one, never a part, also after a crash."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        message = f"runtime_file: {path} can't be written ({error.strerror}); set COHERENCE_RUNTIME_FILE"
        raise SettingsInvalid(message) from error
