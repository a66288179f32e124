"""The policy tags' words, as callers write and read them, and their numbers on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence.v1.signal_pb2 import (
    LICENSE_RESTRICTED_TOS,
    LICENSE_UNSPECIFIED,
    PURPOSE_BENCHMARKING,
    PURPOSE_DEMO,
    PURPOSE_UNSPECIFIED,
    RESIDENCY_UNSPECIFIED,
    RESIDENCY_US,
    RETENTION_LONG_1825D,
    RETENTION_SHORT_30D,
    RETENTION_STANDARD_365D,
    RETENTION_UNLIMITED,
    RETENTION_UNSPECIFIED,
    License,
    Purpose,
    Residency,
    Retention,
    Tags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PURPOSES: Final[Mapping[str, Purpose.ValueType]] = {"benchmarking": PURPOSE_BENCHMARKING, "demo": PURPOSE_DEMO}
RETENTIONS: Final[Mapping[str, Retention.ValueType]] = {
    "short-30d": RETENTION_SHORT_30D,
    "standard-365d": RETENTION_STANDARD_365D,
    "long-1825d": RETENTION_LONG_1825D,
    "unlimited": RETENTION_UNLIMITED,
}
LICENSES: Final[Mapping[str, License.ValueType]] = {"Restricted-TOS": LICENSE_RESTRICTED_TOS}
RESIDENCIES: Final[Mapping[str, Residency.ValueType]] = {"US": RESIDENCY_US}

WORDS: Final[Mapping[str, Mapping[str, int]]] = {
    "purpose": PURPOSES,
    "retention": RETENTIONS,
    "license": LICENSES,
    "residency": RESIDENCIES,
}


class TagNumbers(NamedTuple):
    """The four tags of a request; what is 0 takes its default."""

    purpose: Purpose.ValueType = PURPOSE_UNSPECIFIED
    retention: Retention.ValueType = RETENTION_UNSPECIFIED
    license: License.ValueType = LICENSE_UNSPECIFIED
    residency: Residency.ValueType = RESIDENCY_UNSPECIFIED


DEFAULT_TAGS: Final = TagNumbers()


def tags_message(tags: TagNumbers) -> Tags:
    """The tags on the wire."""
    return Tags(purpose=tags.purpose, retention=tags.retention, license=tags.license, residency=tags.residency)


def tags_of(words: Mapping[str, str | None]) -> tuple[TagNumbers, Mapping[str, str]]:
    """The numbers of these words by tag, and what is wrong with those that have none."""
    numbers: dict[str, int] = {}
    problems: dict[str, str] = {}
    for tag, known in WORDS.items():
        word = words.get(tag)
        if word is None:
            continue
        if word in known:
            numbers[tag] = known[word]
        else:
            problems[tag] = f"must be one of {', '.join(known)}, not {word[:64]!r}"
    return TagNumbers(**numbers), problems  # type: ignore[arg-type]  # each from the table of its own tag


def word_of(tag: str, number: int) -> str:
    """The word of a tag's number; empty for one that this version doesn't know."""
    return next((word for word, known in WORDS[tag].items() if known == number), "")
