"""Finding the version of a policy that an etag names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import ScorePolicyUnknown
from coherence_grpc.policy import DEFAULT_ETAG, UNWRITTEN, seq_of_etag

if TYPE_CHECKING:
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import SignalStore


async def version_named(signals: SignalStore, tenant_id: str, etag: str) -> PolicyVersion:
    """The version of the tenant's policy with the etag; `default` names the rules without a policy.

    Raises:
        ScorePolicyUnknown: the tenant never had it.
    """
    if etag == DEFAULT_ETAG:
        return UNWRITTEN
    seq = seq_of_etag(etag)
    version = UNWRITTEN if seq is None else await signals.policy(tenant_id, at=seq)
    if version.etag != etag:
        message = (
            f"tenant {tenant_id!r} never had a score policy of the etag {etag!r}; ListScorePolicyVersions lists those"
            " that it had, and `default` names the default rules"
        )
        raise ScorePolicyUnknown(message)
    return version
