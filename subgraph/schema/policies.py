"""The rules by which tenants are scored, and how they are changed."""

from typing import Any, Final, Self

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask

from coherence.v1 import score_pb2
from coherence_grpc.errors import FieldError
from subgraph.field_paths import camel
from subgraph.refusals import invalid
from subgraph.schema.fields import given
from subgraph.schema.scalars import DateTime, Long, instant_or_none
from subgraph.schema.words import duration, one_of, seconds, status_word

_CAPS: Final = ("WARN", "CRITICAL")
_INVALID: Final = "SCORE_POLICY_INVALID"
# What each input field is called in the contract.
FIELDS: Final = {
    "window_seconds": "window",
    "half_life_seconds": "half_life",
    "healthy_threshold": "healthy_threshold",
    "warn_threshold": "warn_threshold",
    "hysteresis": "hysteresis",
    "dwell_seconds": "dwell",
    "minimum_signals": "minimum_signals",
    "stale_after_seconds": "stale_after",
    "vetoes": "vetoes",
    "type_weights": "type_weights",
    "source_share_cap": "source_share_cap",
}


@strawberry.type(description="A type of signal of which one bad one is enough.")
class CoherenceVeto:
    """A veto."""

    type: str = strawberry.field(description="The type.")
    below: float = strawberry.field(description="A weighted signal of the type with a value below this vetoes.")
    cap_status: str = strawberry.field(description="The best status possible then: WARN or CRITICAL.")


@strawberry.type(description="What the weights of one type are multiplied with.")
class CoherenceTypeWeight:
    """A type's weight."""

    type: str = strawberry.field(description="The type.")
    weight: float = strawberry.field(description="0 to 1000; 0 mutes the type.")


@strawberry.type(description="The rules by which a tenant is scored. They apply in the order in which they stand here.")
class CoherencePolicy:
    """A policy."""

    tenant_id: strawberry.ID = strawberry.field(description="The tenant.")
    etag: str = strawberry.field(
        description="Names this version: hand it back with a change. `default` without a policy; empty when it was "
        "only checked."
    )
    updated_at: DateTime | None = strawberry.field(description="When it came into force; null for the default rules.")
    seq: Long = strawberry.field(description="Number of its entry in the tenant's log; 0 for the default rules.")
    window_seconds: float = strawberry.field(description="How far back signals count.")
    type_weights: list[CoherenceTypeWeight] = strawberry.field(
        description="What the weights of types are multiplied with; others have 1."
    )
    half_life_seconds: float | None = strawberry.field(
        description="A signal this much older than another counts half as much; null: age doesn't matter."
    )
    source_share_cap: float | None = strawberry.field(
        description="The largest part of the weight that one source may have; null: no cap."
    )
    healthy_threshold: float = strawberry.field(description="HEALTHY from here.")
    warn_threshold: float = strawberry.field(description="WARN from here, CRITICAL below.")
    vetoes: list[CoherenceVeto] = strawberry.field(description="Types of which one bad signal caps the status.")
    minimum_signals: int = strawberry.field(description="With fewer weighted signals the status is UNKNOWN.")
    stale_after_seconds: float | None = strawberry.field(
        description="When the newest signal is older than this the status is UNKNOWN; null: the window decides."
    )
    hysteresis: float = strawberry.field(
        description="heldStatus changes only when the score is this far beyond a threshold."
    )
    dwell_seconds: float = strawberry.field(description="heldStatus changes only to what has lasted so long.")

    @classmethod
    def of(cls, policy: score_pb2.ScorePolicy) -> Self:
        """The policy."""
        return cls(
            tenant_id=strawberry.ID(policy.tenant_id),
            etag=policy.etag,
            updated_at=instant_or_none(policy, "update_time"),
            seq=Long(policy.seq),
            window_seconds=seconds(policy.window),
            type_weights=[
                CoherenceTypeWeight(type=type_, weight=weight) for type_, weight in sorted(policy.type_weights.items())
            ],
            half_life_seconds=_seconds_or_none(policy, "half_life"),
            source_share_cap=policy.source_share_cap if policy.HasField("source_share_cap") else None,
            healthy_threshold=policy.healthy_threshold,
            warn_threshold=policy.warn_threshold,
            vetoes=[
                CoherenceVeto(type=veto.type, below=veto.below, cap_status=status_word(veto.cap_status) or "")
                for veto in policy.vetoes
            ],
            minimum_signals=policy.minimum_signals,
            stale_after_seconds=_seconds_or_none(policy, "stale_after"),
            hysteresis=policy.hysteresis,
            dwell_seconds=seconds(policy.dwell),
        )


@strawberry.type(description="One version of a tenant's policy.")
class CoherencePolicyVersion:
    """A version."""

    policy: CoherencePolicy = strawberry.field(description="The rules.")
    provenance_id: strawberry.ID = strawberry.field(description="The record of who changed it.")


@strawberry.type(description="A page of the versions of a policy, newest first.")
class CoherencePolicyVersionConnection:
    """A page of versions."""

    nodes: list[CoherencePolicyVersion] = strawberry.field(description="The versions of this page.")
    end_cursor: str | None = strawberry.field(description="Hand it back as `after` for the next page.")
    has_next_page: bool = strawberry.field(description="There are more.")

    @classmethod
    def of(cls, page: score_pb2.ListScorePolicyVersionsResponse) -> Self:
        """The page."""
        return cls(
            nodes=[
                CoherencePolicyVersion(
                    policy=CoherencePolicy.of(version.policy), provenance_id=strawberry.ID(version.provenance_id)
                )
                for version in page.versions
            ],
            end_cursor=page.next_page_token or None,
            has_next_page=bool(page.next_page_token),
        )


@strawberry.input(name="CoherenceVetoInput", description="A type of signal of which one bad one is enough.")
class VetoInput:
    """A veto as it is asked for."""

    type: str = strawberry.field(description="The type.")
    below: float = strawberry.field(description="Above 0, at most 1.")
    cap_status: str = strawberry.field(description="WARN or CRITICAL.")


@strawberry.input(name="CoherenceTypeWeightInput", description="What the weights of one type are multiplied with.")
class TypeWeightInput:
    """A type's weight as it is asked for."""

    type: str = strawberry.field(description="The type.")
    weight: float = strawberry.field(description="0 to 1000; 0 mutes the type.")


@strawberry.input(
    name="CoherencePolicyInput",
    description="The rules that are asked for. In a change, what is left out stays and null goes back to the default; "
    "in a simulation both mean the default.",
)
class PolicyInput:
    """A policy as it is asked for."""

    window_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="60 to 2592000, 30 days; default 86400."
    )
    type_weights: list[TypeWeightInput] | None = strawberry.field(
        default=strawberry.UNSET, description="At most 100 types."
    )
    half_life_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="At least a 64th of the window; default none."
    )
    source_share_cap: float | None = strawberry.field(default=strawberry.UNSET, description="0.01 to 1; default none.")
    healthy_threshold: float | None = strawberry.field(default=strawberry.UNSET, description="0 to 1; default 0.75.")
    warn_threshold: float | None = strawberry.field(default=strawberry.UNSET, description="0 to 1; default 0.5.")
    vetoes: list[VetoInput] | None = strawberry.field(default=strawberry.UNSET, description="At most 32.")
    minimum_signals: int | None = strawberry.field(default=strawberry.UNSET, description="1 to 1000000; default 1.")
    stale_after_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="1 up to the window; default none."
    )
    hysteresis: float | None = strawberry.field(default=strawberry.UNSET, description="0 to 0.5; default 0.")
    dwell_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="0 to 2592000, 30 days; default 0."
    )

    def message(self, tenant_id: str) -> score_pb2.ScorePolicy:
        """The policy on the wire.

        Raises:
            Refused: a word or a duration is none.
        """
        weights: dict[str, float] = {}
        for place, entry in enumerate(self.type_weights or ()):
            if entry.type in weights:
                path, problem = f"policy.typeWeights[{place}].type", "is there already; give each type once"
                message = f"{path} {problem}"
                raise invalid(message, FieldError(path, problem), reason=_INVALID)
            weights[entry.type] = entry.weight
        return score_pb2.ScorePolicy(
            tenant_id=tenant_id,
            window=_duration(self, "window_seconds"),
            half_life=_duration(self, "half_life_seconds"),
            healthy_threshold=given(self.healthy_threshold),
            warn_threshold=given(self.warn_threshold),
            hysteresis=given(self.hysteresis),
            dwell=_duration(self, "dwell_seconds"),
            minimum_signals=_whole(given(self.minimum_signals)),
            stale_after=_duration(self, "stale_after_seconds"),
            vetoes=[_veto(veto, place) for place, veto in enumerate(self.vetoes or ())],
            type_weights=weights,
            source_share_cap=given(self.source_share_cap),
        )

    def mask(self) -> FieldMask:
        """The fields that are not left out."""
        return FieldMask(paths=[path for name, path in FIELDS.items() if getattr(self, name) is not strawberry.UNSET])


def _veto(veto: VetoInput, place: int) -> score_pb2.Veto:
    word = one_of(veto.cap_status, _CAPS, f"policy.vetoes[{place}].capStatus", reason=_INVALID)
    return score_pb2.Veto(type=veto.type, below=veto.below, cap_status=score_pb2.Status.Value(f"STATUS_{word}"))


def _whole(number: int | None) -> int | None:
    # A negative one does not fit on the wire; 0 is refused there in the same words.
    return None if number is None else max(number, 0)


def _duration(policy: PolicyInput, name: str) -> Any:  # noqa: ANN401 - a Duration or nothing
    asked: float | None = given(getattr(policy, name))
    return duration(asked, f"policy.{camel(name)}", reason=_INVALID)


def _seconds_or_none(policy: score_pb2.ScorePolicy, field: str) -> float | None:
    return seconds(getattr(policy, field)) if policy.HasField(field) else None  # type: ignore[arg-type]  # a field's name
