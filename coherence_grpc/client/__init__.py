"""How everything outside the backbone talks to it: one channel, its stubs, and refusals as plain values."""

from coherence_grpc.client.connection import Client, connect
from coherence_grpc.client.refusal import Refusal, refusal_of, refusal_of_status

__all__ = ["Client", "Refusal", "connect", "refusal_of", "refusal_of_status"]
