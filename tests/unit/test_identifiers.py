from __future__ import annotations

from uuid import UUID

from coherence_grpc.ingest.identifiers import Uuid7
from tests.builders import NOON


def test_an_identifier_is_a_uuid_of_version_7_that_begins_with_the_milliseconds() -> None:
    made = UUID(Uuid7().next(NOON + 999))

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == NOON // 1000


def test_identifiers_rise_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    identifiers = Uuid7()

    made = [identifiers.next(NOON) for _ in range(10_000)] + [identifiers.next(NOON - 10**9) for _ in range(100)]

    assert made == sorted(set(made))
