"""Which refusals are about what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coherence_grpc.client import Refusal

# The same content would be refused again, whatever the hour; other batches may well be stored.
ABOUT_CONTENT: Final = frozenset(
    {"INVALID_ARGUMENT", "OUT_OF_RANGE", "ALREADY_EXISTS", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION"}
)


def refuses_the_content(refusal: Refusal) -> bool:
    """Sending it again is no use."""
    return refusal.code in ABOUT_CONTENT or refusal.reason == "MESSAGE_TOO_LARGE"
