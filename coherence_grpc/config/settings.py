"""The settings of a process: flags beat the environment, the environment beats the defaults."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from coherence_grpc.errors import FieldError, SettingsInvalid

Parse = Callable[[str], Any]
DEFAULT_GRPC: Final = "127.0.0.1:50051"
DEFAULT_HTTP: Final = "127.0.0.1:4000"
DEFAULT_METRICS: Final = "127.0.0.1:9464"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_PORT: Final = 65_535
MAX_SPEED: Final = 1e6
MAX_KEY_ID: Final = 255
LEAST_KEY_BYTES: Final = 16
MAX_TTL_S: Final = 30 * 86_400
LEAST_STORE_BYTES: Final = 1 << 20
# Hosts with their ports, and a path. Who forgot the host has the user in its place, and the password in the port's.
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::\d{1,5})?"
_PLACE: Final = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[\w.-]*)?")


class _Unfit(ValueError):
    """The text is no value of the setting; the message says what would be."""


class Setting(NamedTuple):
    """One setting: its flag is `--name` with dashes, its variable COHERENCE_NAME unless it has a name of its own.

    What may hold a password has no flag: command lines can be read by everyone on the machine.
    """

    name: str
    default: str
    parse: Parse
    meaning: str
    named: str = ""
    secret: bool = False

    @property
    def flag(self) -> str:
        """As given to `coherence serve`; '' when it is taken from the environment alone."""
        return "" if self.secret else f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """As given in the environment."""
        return self.named or f"COHERENCE_{self.name.upper()}"

    def shown(self, value: object) -> str:
        """The value as it would be given, without passwords; '' where nothing is set."""
        if value is None or value == ():
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        text = str(value)
        if not self.secret:
            return text
        scheme, is_uri, rest = text.partition("://")
        # A password stands before the `@` or in the query, and may itself hold an `@` or a `?`.
        before, _, query = rest.partition("?")
        place = before.rpartition("@")[2]
        return f"{scheme}://{place}" if is_uri and "@" not in query and _PLACE.fullmatch(place) else "(hidden)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `coherence serve` runs with; `sources` says where each value came from.

    `http` None means no subgraph and `metrics` None no page of metrics; `clock_start` (microseconds) None means real
    time; `max_store_bytes` None no limit; `neo4j_uri`, `postgres_uri` and `redis_url` None mean the embedded part in
    its place.
    """

    grpc: str
    http: str | None
    metrics: str | None
    data: Path
    runtime_file: Path
    profile: str
    log: str
    clock_start: int | None
    clock_speed: float
    allow_unlimited: bool
    max_store_bytes: int | None
    neo4j_uri: str | None
    neo4j_user: str
    neo4j_password: str | None
    postgres_uri: str | None
    redis_url: str | None
    cursor_keys: tuple[tuple[int, bytes], ...]
    cache_ttl_s: float
    marks_ttl_s: float
    sources: Mapping[str, str]

    @property
    def simulated(self) -> bool:
        """Domain time is not the system's time."""
        return self.clock_start is not None

    def rows(self) -> list[tuple[str, str, str]]:
        """Every setting as (name, value, source), for people."""
        return [(s.name, s.shown(getattr(self, s.name)), self.sources[s.name]) for s in SETTINGS]


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings of these flags (by name; None: not given) and this environment.

    Raises:
        SettingsInvalid: naming every setting that can't be served, where it was set, and what to do.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    wrong: list[FieldError] = []
    for setting in SETTINGS:
        text, source = _given(setting, flags, environ)
        sources[setting.name] = source
        try:
            values[setting.name] = setting.parse(text)
        except _Unfit as unfit:
            given = "" if setting.secret else f"{text!r} "
            wrong.append(FieldError(setting.name, f"{given}({source}): {unfit}"))
    if not wrong:
        values["runtime_file"] = values["runtime_file"] or values["data"] / "runtime.json"
        settings = Settings(**values, sources=sources)
        wrong = _contradictions(settings)
        if not wrong:
            return settings
    raise SettingsInvalid("; ".join(f"{path}: {problem}" for path, problem in wrong), fields=wrong)


def _given(setting: Setting, flags: Mapping[str, object], environ: Mapping[str, str]) -> tuple[str, str]:
    flag = flags.get(setting.name)
    if flag is not None and setting.flag:
        return str(flag), f"flag {setting.flag}"
    variable = environ.get(setting.variable)
    if variable:
        return variable, f"environment {setting.variable}"
    return setting.default, "default"


def _contradictions(settings: Settings) -> list[FieldError]:
    """Binds that would expose the service, and settings that exclude each other."""
    wrong = [
        FieldError(
            name,
            f"{address} can be reached from other machines, which asks for TLS and authentication, and this version "
            f"has neither; bind a loopback address such as {example}",
        )
        for name, address, example in (
            ("grpc", settings.grpc, DEFAULT_GRPC),
            ("http", settings.http, DEFAULT_HTTP),
            ("metrics", settings.metrics, DEFAULT_METRICS),
        )
        if address is not None and not is_loopback(address)
    ]
    if settings.clock_start is None and settings.clock_speed != 1:
        wrong.append(FieldError("clock_speed", "real time runs at 1; give --clock-start as well for a simulated clock"))
    if settings.simulated and (settings.neo4j_uri or settings.postgres_uri):
        problem = "a simulated clock needs stores that nobody else uses; leave NEO4J_URI and POSTGRES_URI unset"
        wrong.append(FieldError("clock_start", problem))
    if settings.neo4j_uri and not settings.neo4j_password:
        wrong.append(FieldError("neo4j_password", "NEO4J_URI is set, and NEO4J_PASSWORD is not; set it"))
    if settings.simulated and settings.profile == "prod":
        wrong.append(
            FieldError("clock_start", "a simulated clock and profile prod exclude each other; use profile dev")
        )
    return wrong


def is_loopback(address: str) -> bool:
    """The address, as host:port, can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        message = "write it as host:port, with port 0 for a free one"
        raise _Unfit(message)
    return text


def _address_or_off(text: str) -> str | None:
    return None if text == "off" else _address(text)


def _optional(parse: Parse) -> Parse:
    return lambda text: parse(text) if text else None


def _instant(text: str) -> int:
    try:
        microseconds = (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)
    except (ValueError, TypeError, OverflowError):  # TypeError: without an offset there is no difference
        microseconds = -1
    if microseconds < 0:
        message = "write an instant since 1970 with its offset, such as 2013-02-08T00:00:00Z"
        raise _Unfit(message)
    return microseconds


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed <= MAX_SPEED:
        message = "write a number above 0, at most 1000000; 1 is real time"
        raise _Unfit(message)
    return speed


def _bytes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < LEAST_STORE_BYTES:
        message = f"write a number of bytes, at least {LEAST_STORE_BYTES}"
        raise _Unfit(message)
    return int(text)


def _flag(text: str) -> bool:
    words = {"true": True, "on": True, "1": True, "yes": True, "false": False, "off": False, "0": False, "no": False}
    if text.lower() not in words:
        message = "write true or false"
        raise _Unfit(message)
    return words[text.lower()]


def _one_of(*words: str) -> Parse:
    def parse(text: str) -> str:
        if text not in words:
            message = f"write one of {', '.join(words)}"
            raise _Unfit(message)
        return text

    return parse


def _uri(*schemes: str) -> Parse:
    def parse(text: str) -> str:
        scheme, found, rest = text.partition("://")
        if not found or scheme not in schemes or not rest:
            # The text may hold a password, and the message says enough without it.
            message = f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a server"
            raise _Unfit(message)
        return text

    return parse


def _keys(text: str) -> tuple[tuple[int, bytes], ...]:
    """`1:hex,2:hex`: the first signs, all are accepted."""
    keys = []
    for part in filter(None, text.split(",")):
        number, _, secret = part.partition(":")
        try:
            key = int(number), bytes.fromhex(secret)
        except ValueError:
            key = 0, b""
        if not 0 < key[0] <= MAX_KEY_ID or len(key[1]) < LEAST_KEY_BYTES:
            message = f"write ID:HEX[,ID:HEX...], ids 1 to {MAX_KEY_ID}, at least {LEAST_KEY_BYTES} bytes each"
            raise _Unfit(message)
        keys.append(key)
    return tuple(keys)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_TTL_S:
        message = f"must be more than 0 and at most {MAX_TTL_S:.0f} seconds"
        raise _Unfit(message)
    return seconds


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("grpc", DEFAULT_GRPC, _address, "Where the backbone listens"),
    Setting("http", DEFAULT_HTTP, _address_or_off, "Where the subgraph listens; off: no subgraph"),
    Setting("metrics", "off", _address_or_off, "Where /metrics is answered; off: nowhere"),
    Setting("data", "data", Path, "Directory of the stores; one process at a time"),
    Setting("runtime_file", "", _optional(Path), "File of the runtime switches; default DATA/runtime.json"),
    Setting("profile", "dev", _one_of("dev", "prod"), "prod turns reflection off"),
    Setting("log", "info", _one_of("debug", "info", "warning"), "Least severity that is logged"),
    Setting("clock_start", "", _optional(_instant), "Instant at which a simulated clock starts"),
    Setting("clock_speed", "1", _speed, "Domain seconds per second of a simulated clock"),
    Setting("allow_unlimited", "true", _flag, "Accept signals with retention unlimited"),
    Setting("max_store_bytes", "", _optional(_bytes), "Refuse writes beyond this size of the store"),
    Setting(
        "neo4j_uri",
        "",
        _optional(_uri("bolt", "neo4j", "bolt+s", "neo4j+s", "bolt+ssc", "neo4j+ssc")),
        "Signals are kept in this Neo4j instead of the data directory",
        "NEO4J_URI",
    ),
    Setting("neo4j_user", "neo4j", str, "Who the service is to Neo4j", "NEO4J_USER"),
    Setting("neo4j_password", "", _optional(str), "And its password", "NEO4J_PASSWORD", secret=True),
    Setting(
        "postgres_uri",
        "",
        _optional(_uri("postgresql", "postgres")),
        "Scores are kept in this PostgreSQL instead of the data directory",
        "POSTGRES_URI",
        secret=True,
    ),
    Setting(
        "redis_url",
        "",
        _optional(_uri("redis", "rediss", "unix")),
        "Doorbells, cache and dedupe marks go through this Redis",
        "REDIS_URL",
        secret=True,
    ),
    Setting("cursor_keys", "", _keys, "ID:HEX[,...] that sign cursors; default DATA/cursor.key", secret=True),
    Setting("cache_ttl_s", "30", _seconds, "How long a cached score is kept, in seconds"),
    Setting("marks_ttl_s", "172800", _seconds, "How long dedupe marks are kept, in seconds"),
)
