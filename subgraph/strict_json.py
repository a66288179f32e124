"""JSON as RFC 8259 has it, and no other: no repeated keys, no NaN, no half characters, no bottomless nesting."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final, NoReturn

_HALF_CHARACTER: Final = "\\ud"


class JsonInvalid(ValueError):
    """The text can't be read as JSON; the message says where and why."""


class Repeated:
    """An object that names a key twice, kept apart so that what stands beside it can still be read."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class NotANumber:
    """A NaN or Infinity, kept apart so that what stands beside it can still be read."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word


def decode(raw: bytes, name: str = "the body") -> object:
    """The value in a JSON text that must be flawless throughout; `name` is how messages call it.

    Raises:
        JsonInvalid: it can't be read.
    """
    return _decode(_WHOLE, raw, name)


def decode_parts(raw: bytes, name: str = "the body") -> object:
    """The value in a JSON text; what is flawed inside comes as `Repeated` or `NotANumber`.

    Raises:
        JsonInvalid: it can't be read at all.
    """
    return _decode(_PARTS, raw, name)


def _decode(decoder: json.JSONDecoder, raw: bytes, name: str) -> object:
    try:
        text = raw.decode()
        value: object = decoder.decode(text)
        if _HALF_CHARACTER in text.lower():
            # Python reads a lone \ud800 without a word; nothing that it is sent on to can take it.
            json.dumps(value, ensure_ascii=False, default=repr).encode()
    except UnicodeDecodeError as exc:
        message = f"{name} is not UTF-8: byte {exc.start} can't be read"
    except UnicodeEncodeError:
        message = f"{name} holds half a character (a lone surrogate); send whole characters"
    except RecursionError:
        message = f"{name} is nested too deeply; a request has a handful of levels"
    except (json.JSONDecodeError, JsonInvalid) as exc:
        message = f"{name} is not JSON: {exc}"
    except ValueError:
        message = f"{name} is not JSON that can be read: a number has thousands of digits"
    else:
        return value
    raise JsonInvalid(message)


def _repeated(pairs: list[tuple[str, object]]) -> str:
    return next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    read = dict(pairs)
    if len(read) < len(pairs):
        message = f"an object names the key {_repeated(pairs)[:64]!r} twice; name it once"
        raise JsonInvalid(message)
    return read


def _object_or_flaw(pairs: list[tuple[str, object]]) -> dict[str, object] | Repeated:
    read = dict(pairs)
    return read if len(read) == len(pairs) else Repeated(_repeated(pairs))


def _no_constant(word: str) -> NoReturn:
    message = f"{word} is no JSON number; send a finite one"
    raise JsonInvalid(message)


_WHOLE: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
_PARTS: Final = json.JSONDecoder(object_pairs_hook=_object_or_flaw, parse_constant=NotANumber)
