"""Whether an instant and a policy can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import FieldError, FilterInvalid

if TYPE_CHECKING:
    from coherence_grpc.ports import Clock


def check_past(clock: Clock, as_of: int | None, policy_etag: str = "") -> None:
    """Return when `as_of` is no instant ahead, and a policy is named only for a past one.

    Raises:
        FilterInvalid: naming the field.
    """
    if as_of is not None and as_of > clock.now():
        path, problem = "as_of_time", "is ahead of the server's clock; choose a past instant, or leave it out"
        raise invalid(path, problem)
    if policy_etag and as_of is None:
        path = "policy_etag"
        raise invalid(path, "goes with as_of_time; leave it out, or say as of when; SimulateScore tries policies")


def invalid(path: str, problem: str) -> FilterInvalid:
    """The refusal that names the field."""
    return FilterInvalid(f"{path} {problem}", fields=[FieldError(path, problem)])
