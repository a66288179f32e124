"""What every call passes before it reaches its servicer.

Outermost first: failures (error mapping), observation and connections (telemetry), deadline, authentication, policy,
limit. `guard` has their order, `Registry` puts servicers behind it.
"""

from coherence_grpc.interceptors.authentication import local
from coherence_grpc.interceptors.limit import Pool, pools
from coherence_grpc.interceptors.methods import MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, POOLS
from coherence_grpc.interceptors.registration import Registry

__all__ = ["MAX_BATCH_BYTES", "MAX_MESSAGE_BYTES", "POOLS", "Pool", "Registry", "local", "pools"]
