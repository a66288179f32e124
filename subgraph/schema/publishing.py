"""Publishing: what callers send, and what became of it."""

from collections.abc import Mapping
from typing import Final, Self

import strawberry

from coherence.v1.ingest_pb2 import ON_CONFLICT_REJECT, ON_CONFLICT_REPLACE, PublishSignalRequest
from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import Refusal
from coherence_grpc.errors import FieldError
from subgraph.field_paths import item_path
from subgraph.publishing import DUPLICATE, REPLACED, STORED, Accepted, Report, Submitted, Terms, Verdict
from subgraph.refusals import GRAPHQL_CODE, INTERNAL, invalid, renamed
from subgraph.schema.fields import given
from subgraph.schema.scalars import DateTime, Long
from subgraph.schema.words import one_of
from subgraph.tags import tags_message, tags_of

_ON_CONFLICT: Final = ("REJECT", "REPLACE")


@strawberry.input(description="The policy tags of a request; each left out takes its default.")
class PolicyTagsInput:
    """The policy tags."""

    purpose: str | None = strawberry.field(default=strawberry.UNSET, description="benchmarking (default) or demo.")
    retention: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="short-30d, standard-365d (default), long-1825d or, where allowed, unlimited.",
    )
    license: str | None = strawberry.field(default=strawberry.UNSET, description="Restricted-TOS (default).")
    residency: str | None = strawberry.field(default=strawberry.UNSET, description="US (default).")

    def words(self) -> Mapping[str, str | None]:
        """The words by tag."""
        return {tag: given(word) for tag, word in vars(self).items()}


@strawberry.input(description="A signal to publish.")
class PublishCoherenceSignalInput:
    """One signal as the caller sends it."""

    tenant_id: strawberry.ID = strawberry.field(
        description="Lower-case letters, digits, `_` and `-`, 1 to 64, starting with a letter or a digit."
    )
    type: str = strawberry.field(description="What kind of observation, 1 to 64 printable characters.")
    value: float = strawberry.field(description="0 (incoherent) to 1 (coherent), kept to nine decimals.")
    weight: float | None = strawberry.field(
        default=strawberry.UNSET, description="0 to 1000, default 1; 0 stores the signal muted."
    )
    source: str = strawberry.field(description="Who emitted it, 1 to 128 printable characters.")
    ts: DateTime | None = strawberry.field(
        default=strawberry.UNSET,
        description="When it happened; at most 5 minutes ahead. Left out: when the server first saw the request, so "
        "a retry is safe only with an idempotencyKey.",
    )
    signal_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="At most 128 printable characters; two signals with the same tenant, source, signalId and ts are "
        "the same signal. Left out: a hash of the content.",
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="At most 128 printable characters, unique per tenant. Sent again with the same content it gets "
        "the first answer and stores nothing.",
    )
    tags: PolicyTagsInput | None = strawberry.field(default=strawberry.UNSET, description="Policy tags of the request.")
    backfill: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Historical data: nobody should be alerted."
    )
    on_conflict: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="When another content is stored under its key: REJECT (default) it, or REPLACE what is stored. A "
        "late retry does no harm under its idempotencyKey.",
    )

    def signal(self) -> Signal:
        """The signal on the wire."""
        return Signal(
            tenant_id=self.tenant_id,
            source=self.source,
            signal_id=self.signal_id or "",
            type=self.type,
            value=self.value,
            weight=given(self.weight),
            ts=given(self.ts),
        )

    def terms(self, path: str) -> Terms:
        """Under which request it is published; `path` is where it stands in the caller's variables.

        Raises:
            Refused: a tag, or onConflict, has no such word.
        """
        tags, problems = tags_of(self.tags.words() if self.tags else {})
        if problems:
            fields = [FieldError(f"{path}.tags.{tag}", problem) for tag, problem in problems.items()]
            message = "; ".join(f"{field.path} {field.problem}" for field in fields)
            raise invalid(message, *fields, reason="SIGNAL_INVALID")
        word = one_of(self.on_conflict or "REJECT", _ON_CONFLICT, f"{path}.onConflict", reason="SIGNAL_INVALID")
        return Terms(self.idempotency_key or "", tags, bool(self.backfill), replace=word == "REPLACE")

    def request(self) -> PublishSignalRequest:
        """The signal as a request of its own."""
        terms = self.terms("input")
        return PublishSignalRequest(
            signal=self.signal(),
            request_id=terms.request_id,
            tags=tags_message(terms.tags),
            backfill=terms.backfill,
            on_conflict=ON_CONFLICT_REPLACE if terms.replace else ON_CONFLICT_REJECT,
        )

    def submitted(self, place: int) -> Submitted:
        """The signal as one of many."""
        return Submitted(place, self.signal(), self.terms(f"inputs[{place}]"))


@strawberry.type(description="What is wrong with one field.")
class PublishFieldError:
    """One field's problem."""

    path: str = strawberry.field(description="The field, such as `inputs[3].value`.")
    problem: str = strawberry.field(description="What is wrong and what to send instead.")


@strawberry.type(description="Why a signal was refused.")
class PublishError:
    """One signal's refusal."""

    code: str = strawberry.field(description="As in the extensions of errors: BAD_USER_INPUT, CONFLICT, ...")
    reason: str | None = strawberry.field(description="The reason in one word, such as SIGNAL_KEY_CONFLICT.")
    message: str = strawberry.field(description="What is wrong, and the next step.")
    retry_after_ms: int | None = strawberry.field(
        description="The same signal may be accepted after this long; null when it won't be."
    )
    fields: list[PublishFieldError] = strawberry.field(description="The fields that are wrong.")

    @classmethod
    def of(cls, refusal: Refusal) -> Self:
        """The refusal."""
        retry = refusal.retry_after_s
        return cls(
            code=GRAPHQL_CODE.get(refusal.code, INTERNAL),
            reason=refusal.reason or None,
            message=refusal.message,
            retry_after_ms=None if retry is None else round(retry * 1000),
            fields=[PublishFieldError(path=field.path, problem=field.problem) for field in refusal.fields],
        )


@strawberry.type(description="What became of one signal.")
class PublishResult:
    """One signal's outcome."""

    index: int = strawberry.field(description="Its position in the request, from 0.")
    outcome: str | None = strawberry.field(description="STORED, DUPLICATE, REPLACED, or null when refused.")
    tenant_id: strawberry.ID | None = strawberry.field(description="First part of the key it is stored under.")
    source: str | None = strawberry.field(description="Second part of the key.")
    signal_id: strawberry.ID | None = strawberry.field(description="Third part of the key.")
    ts: DateTime | None = strawberry.field(description="Fourth part of the key.")
    seq: Long | None = strawberry.field(description="Its number in the tenant's log.")
    provenance_id: strawberry.ID | None = strawberry.field(description="The record of the request that stored it.")
    error: PublishError | None = strawberry.field(description="Why it was refused.")

    @classmethod
    def of(cls, index: int, verdict: Verdict) -> Self:
        """The result."""
        if isinstance(verdict, Accepted):
            key = verdict.key
            return cls(
                index=index,
                outcome=verdict.outcome,
                tenant_id=strawberry.ID(key.tenant_id),
                source=key.source,
                signal_id=strawberry.ID(key.signal_id),
                ts=DateTime(key.ts),
                seq=Long(verdict.seq),
                provenance_id=strawberry.ID(verdict.provenance_id),
                error=None,
            )
        refusal = renamed(verdict, lambda path: item_path("inputs", index, path))
        return cls(
            index=index,
            outcome=None,
            tenant_id=None,
            source=None,
            signal_id=None,
            ts=None,
            seq=None,
            provenance_id=None,
            error=PublishError.of(refusal),
        )


@strawberry.type(description="What became of the signals of a request, each by itself.")
class PublishReport:
    """Many signals' outcomes."""

    results: list[PublishResult] = strawberry.field(description="One result per input, in the order of the inputs.")
    stored_count: int = strawberry.field(description="How many were stored by this request.")
    duplicate_count: int = strawberry.field(description="How many were there already.")
    replaced_count: int = strawberry.field(description="How many took the place of another content.")
    refused_count: int = strawberry.field(description="How many were refused.")

    @classmethod
    def of(cls, report: Report) -> Self:
        """The report."""
        return cls(
            results=[PublishResult.of(index, report.verdicts[index]) for index in sorted(report.verdicts)],
            stored_count=report.count(STORED),
            duplicate_count=report.count(DUPLICATE),
            replaced_count=report.count(REPLACED),
            refused_count=len(report.refusals),
        )
