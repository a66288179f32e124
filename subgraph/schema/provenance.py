"""Who stored what, and the chain that proves it."""

from typing import Self

import strawberry

from coherence.v1 import ingest_pb2
from subgraph.schema.scalars import DateTime, Long
from subgraph.tags import word_of


@strawberry.type(description="One link of the ledger: headHash = SHA-256(0x01, previousHeadHash, entryHash).")
class LedgerLink:
    """One entry's place in the chain."""

    seq: Long = strawberry.field(description="Number of the entry in the tenant's log.")
    entry_hash: str = strawberry.field(description="SHA-256 of the entry, in hex.")
    previous_head_hash: str = strawberry.field(description="The chain before the entry, in hex.")
    head_hash: str = strawberry.field(description="The chain with the entry, in hex.")

    @classmethod
    def of(cls, link: ingest_pb2.ChainLink) -> Self:
        """The link."""
        return cls(
            seq=Long(link.seq),
            entry_hash=link.entry_hash.hex(),
            previous_head_hash=link.previous_head_hash.hex(),
            head_hash=link.head_hash.hex(),
        )


@strawberry.type(description="The immutable record of one request that stored something.")
class SignalProvenance:
    """One request's record."""

    provenance_id: strawberry.ID = strawberry.field(description="From a signal or a publish result.")
    tenant_id: strawberry.ID = strawberry.field(description="Whose log it wrote to.")
    request_id: str = strawberry.field(description="The caller's idempotency key, or the server's own.")
    request_hash: str = strawberry.field(description="SHA-256 of the request's canonical encoding, in hex.")
    purpose: str = strawberry.field(description="What the signals may be used for.")
    retention: str = strawberry.field(description="How long their bodies are kept.")
    license: str = strawberry.field(description="The terms they came under.")
    residency: str = strawberry.field(description="Where they must stay.")
    principal: str = strawberry.field(description="Who called.")
    transport: str = strawberry.field(description="How it came: grpc, http, graphql, import or system.")
    received_at: DateTime = strawberry.field(description="When the server first saw it.")
    traceparent: str | None = strawberry.field(description="W3C trace context of the caller, if any.")
    backfill: bool = strawberry.field(description="Historical data.")
    links: list[LedgerLink] = strawberry.field(description="The entries it stored, ascending, at most 1000.")

    @classmethod
    def of(cls, answer: ingest_pb2.GetProvenanceResponse) -> Self:
        """The record with its links."""
        record, tags = answer.provenance, answer.provenance.tags
        return cls(
            provenance_id=strawberry.ID(record.provenance_id),
            tenant_id=strawberry.ID(record.tenant_id),
            request_id=record.request_id,
            request_hash=record.request_hash.hex(),
            purpose=word_of("purpose", tags.purpose),
            retention=word_of("retention", tags.retention),
            license=word_of("license", tags.license),
            residency=word_of("residency", tags.residency),
            principal=record.principal,
            transport=record.transport,
            received_at=DateTime(record.received_time),
            traceparent=record.traceparent or None,
            backfill=record.backfill,
            links=[LedgerLink.of(link) for link in answer.links],
        )
