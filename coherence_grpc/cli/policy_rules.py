"""The rules of a score policy as people write and read them: durations as `24h`, statuses without a prefix."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coherence.v1.score_pb2 import ScorePolicy, Status, Veto
from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.records import encodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from google.protobuf.duration_pb2 import Duration

# In the order in which they apply; what is said about each fits into a column.
MEANING: Final = {
    "window": "how far back signals count",
    "type_weights": "what the weights of a type are multiplied with",
    "half_life": "a signal this much older counts half as much",
    "source_share_cap": "the most that one source may have of all weight",
    "healthy_threshold": "HEALTHY from here",
    "warn_threshold": "WARN from here, CRITICAL below",
    "vetoes": "one signal of the type below that caps the status",
    "minimum_signals": "UNKNOWN with fewer",
    "stale_after": "UNKNOWN when the newest signal is older",
    "hysteresis": "the held status changes only this far beyond a threshold",
    "dwell": "the held status changes only to what has lasted so long",
}
SET_BY_SERVER: Final = ("tenant_id", "etag", "update_time", "seq")
OFF: Final = "off"
_SPANS: Final = ("window", "half_life", "stale_after", "dwell")
_FRACTIONS: Final = ("source_share_cap", "healthy_threshold", "warn_threshold", "hysteresis")
_CAPS: Final = ("WARN", "CRITICAL")
_UNITS: Final = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|ms|m|s|us)", re.ASCII)
# What a Duration may hold.
_LONGEST_US: Final = 315_576_000_000 * 1_000_000
_SHOWN_UNITS: Final = (("d", 2), ("h", 1), ("m", 1), ("s", 1))


def record(policy: ScorePolicy) -> dict[str, object]:
    """The rules as JSON shows them, and as a file for `coherence policy set` holds them; None: the rule is off."""
    present = _present(policy)
    return {
        **{name: _seconds(getattr(policy, name)) if name in present else None for name in _SPANS},
        **{name: getattr(policy, name) if name in present else None for name in _FRACTIONS},
        "minimum_signals": policy.minimum_signals,
        "vetoes": [{"type": v.type, "below": v.below, "cap_status": _cap_word(v)} for v in policy.vetoes],
        "type_weights": {type_: policy.type_weights[type_] for type_ in sorted(policy.type_weights)},
    }


def shown(policy: ScorePolicy) -> dict[str, str]:
    """Each rule in words, in the order of MEANING; one line for each type of a weight or a veto."""
    present = _present(policy)
    words: dict[str, str] = {}
    for name in MEANING:
        if name == "type_weights":
            words |= {f"type_weights.{t}": _figure(policy.type_weights[t]) for t in sorted(policy.type_weights)}
        elif name == "vetoes":
            words |= _vetoes_shown(policy.vetoes)
        elif name not in present:
            words[name] = OFF
        else:
            words[name] = (span_shown if name in _SPANS else _figure)(getattr(policy, name))
    return words


def span_shown(span: Duration) -> str:
    """The duration in the largest unit that it is a whole number of, as `--set` reads it."""
    us = span.ToMicroseconds()
    for unit, least in _SHOWN_UNITS:
        number, rest = divmod(us, _UNITS[unit])
        if not rest and number >= least:
            return f"{number}{unit}"
    return _seconds(span)


def changes(before: ScorePolicy, after: ScorePolicy) -> list[tuple[str, str, str]]:
    """What differs: rule, before, after; a type without a weight or veto of its own has a dash."""
    was, now = shown(before), shown(after)
    names = [*was, *(name for name in now if name not in was)]
    order = {name: place for place, name in enumerate(MEANING)}
    names.sort(key=lambda name: (order[name.partition(".")[0]], name))
    return [(n, was.get(n, "–"), now.get(n, "–")) for n in names if was.get(n) != now.get(n)]


def meaning_of(rule: str) -> str:
    """What a rule says, also one of a single type."""
    return MEANING[rule.partition(".")[0]]


def is_file(name: str) -> bool:
    """The word names a file, there or not, and no version."""
    return name == "-" or name.endswith((".json", ".toml")) or Path(name).is_file()


def read_file(path: str) -> Mapping[str, Any]:
    """What a file holds: TOML where its name ends so, JSON otherwise; `-` is JSON from stdin."""
    try:
        text = (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode()
        words = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
    except ValueError as error:
        message = f"{path} can't be read: {error}"
        raise Failure(message, "write it as `coherence policy get --json` does", exit_code=USAGE) from None
    if not isinstance(words, dict):
        message = f"{path} holds no object"
        raise Failure(message, "write it as `coherence policy get --json` does", exit_code=USAGE)
    return words


def policy_of(words: Mapping[str, Any]) -> ScorePolicy:
    """The policy that the words of a file describe; what is left out or null has its default."""
    policy = ScorePolicy()
    for name, value in words.items():
        if name in SET_BY_SERVER or value is None:
            continue
        if name == "type_weights":
            _put_weights(policy, value)
        elif name == "vetoes":
            policy.vetoes.extend(_veto(f"vetoes[{index}]", veto) for index, veto in enumerate(_listed(name, value)))
        else:
            _put(policy, name, value)
    return policy


def apply(policy: ScorePolicy, settings: Iterable[str]) -> list[str]:
    """Change the policy as `rule=value` says, each; the names of the rules that were touched.

    An empty value sets a rule back to its default. `type_weights.TYPE=2` and `vetoes.TYPE=0.25:CRITICAL` are about one
    type.
    """
    touched = dict.fromkeys(_apply(policy, setting) for setting in settings)
    return list(touched)


def _apply(policy: ScorePolicy, setting: str) -> str:
    key, equals, value = (part.strip() for part in _text("--set", setting).rpartition("="))
    name, dot, type_ = key.partition(".")
    if not equals or (dot and name not in {"type_weights", "vetoes"}):
        message = f"--set {setting!r} is not rule=value"
        raise Failure(message, f"the rules are {', '.join(MEANING)}", exit_code=USAGE)
    if name == "type_weights" and dot:
        policy.type_weights.pop(type_, None)
        if value:
            policy.type_weights[type_] = _number(key, value)
    elif name == "vetoes" and dot:
        kept = [veto for veto in policy.vetoes if veto.type != type_]
        written = list(_vetoes_written(key, type_, value))
        policy.ClearField("vetoes")
        policy.vetoes.extend([*kept, *written])
    elif value:
        _put(policy, name, value)
    else:
        _reset(policy, name)
    return name


def _reset(policy: ScorePolicy, name: str) -> None:
    _known(name)
    policy.ClearField(name)  # type: ignore[arg-type] # a rule by its name


def _put(policy: ScorePolicy, name: str, value: object) -> None:
    _known(name)
    if name in _SPANS:
        getattr(policy, name).FromMicroseconds(parse_span(name, value))
    elif name in _FRACTIONS:
        setattr(policy, name, _number(name, value))
    elif name == "minimum_signals":
        policy.minimum_signals = _count(name, value)
    else:
        example = "vetoes.TYPE=0.25:CRITICAL" if name == "vetoes" else "type_weights.TYPE=2"
        message = f"{name} has a value for each type"
        raise Failure(message, f"write --set {example}, or use a file", exit_code=USAGE)


def _known(name: str) -> None:
    if name not in MEANING:
        message = f"there is no rule {name!r}"
        raise Failure(message, f"the rules are {', '.join(MEANING)}", exit_code=USAGE)


def parse_span(name: str, value: object) -> int:
    """The microseconds of `24h`, `1d 12h`, `90m`, `86400s` or a number of seconds."""
    text = str(value).strip()
    parts = _SPAN.findall(text)
    if not isinstance(value, bool) and re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        parts = [(text, "s")]
    us = round(sum(Decimal(number) * _UNITS[unit] for number, unit in parts))
    if not parts or _SPAN.sub("", text).strip(" 0123456789.") or us > _LONGEST_US:
        message = f"{name} {text[:64]!r} is no duration"
        raise Failure(message, "write it like 7d, 24h, 90m, 45s or 1d 12h", exit_code=USAGE)
    return us


def _number(name: str, value: object) -> float:
    if not isinstance(value, bool) and isinstance(value, (int, float, str)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    message = f"{name} {str(value)[:64]!r} is no number"
    raise Failure(message, "write it like 0.75", exit_code=USAGE)


def _count(name: str, value: object) -> int:
    text = str(value)
    if isinstance(value, (bool, float)) or not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        message = f"{name} {text[:64]!r} is no whole number"
        raise Failure(message, "write it like 3", exit_code=USAGE)
    return int(text)


def _put_weights(policy: ScorePolicy, value: object) -> None:
    if not isinstance(value, dict):
        message = "type_weights is no object of types and weights"
        raise Failure(message, 'write it like {"deploy": 2}', exit_code=USAGE)
    for type_, weight in value.items():
        policy.type_weights[_text("type_weights", type_)] = _number(f"type_weights.{type_}", weight)


def _text(name: str, value: str) -> str:
    try:
        return encodable(name, value)
    except ValueError as error:
        raise Failure(str(error), "correct it", exit_code=USAGE) from None


def _listed(name: str, value: object) -> Sequence[object]:
    if not isinstance(value, list):
        message = f"{name} is no list"
        raise Failure(message, _VETO_EXAMPLE, exit_code=USAGE)
    return value


_VETO_EXAMPLE: Final = 'write a veto like {"type": "cancelled", "below": 0.25, "cap_status": "CRITICAL"}'


def _veto(name: str, value: object) -> Veto:
    if not isinstance(value, dict) or set(value) != {"type", "below", "cap_status"}:
        message = f"{name} needs type, below and cap_status, and nothing else"
        raise Failure(message, _VETO_EXAMPLE, exit_code=USAGE)
    return Veto(
        type=_text(f"{name}.type", str(value["type"])),
        below=_number(f"{name}.below", value["below"]),
        cap_status=_cap(f"{name}.cap_status", str(value["cap_status"])),
    )


def _vetoes_written(key: str, type_: str, value: str) -> Iterator[Veto]:
    """The vetoes of one type as `--set` has them: `below:STATUS`, more than one with commas between."""
    for text in filter(None, value.split(",")):
        below, _, cap = text.partition(":")
        yield Veto(type=type_, below=_number(key, below), cap_status=_cap(key, cap.strip()))


def _cap(name: str, word: str) -> Status.ValueType:
    word = word.upper().removeprefix("STATUS_")
    if word not in _CAPS:
        message = f"{name}: {word[:32]!r} is no status that a veto can cap to"
        raise Failure(message, "write WARN or CRITICAL, such as vetoes.cancelled=0.25:CRITICAL", exit_code=USAGE)
    return Status.Value(f"STATUS_{word}")


def _vetoes_shown(vetoes: Iterable[Veto]) -> dict[str, str]:
    words: dict[str, str] = {}
    for veto in vetoes:
        name, text = f"vetoes.{veto.type}", f"{_figure(veto.below)}:{_cap_word(veto)}"
        words[name] = f"{words[name]},{text}" if name in words else text
    return words


def _cap_word(veto: Veto) -> str:
    return Status.Name(veto.cap_status).removeprefix("STATUS_")


def _present(policy: ScorePolicy) -> frozenset[str]:
    return frozenset(descriptor.name for descriptor, _ in policy.ListFields())


def _seconds(span: Duration) -> str:
    return f"{Decimal(span.ToMicroseconds()) / _UNITS['s']:f}s"


def _figure(number: float) -> str:
    """The number with the digits that are kept of it."""
    return f"{number:.9f}".rstrip("0").rstrip(".")
