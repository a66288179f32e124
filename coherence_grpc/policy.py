"""The rules by which a tenant is scored, and how the log keeps them.

Fractions are integers of 10⁻⁶ (`…_ppm`), values integers of 10⁻⁹ (`…_q`), durations microseconds (`…_us`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.model import WINDOW, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

PPM: Final = 10**6
DEFAULT_ETAG: Final = "default"
_VERSION: Final = 1
# What stores number entries with.
_GREATEST_SEQ: Final = (1 << 63) - 1


class Veto(NamedTuple):
    """One weighted signal of `type` in the window with a value below `below_q` caps the status."""

    type: str
    below_q: int
    cap: Status


@dataclass(frozen=True, slots=True)
class ScorePolicy:
    """The rules; the defaults are those without a policy. `None` switches a rule off.

    They apply in this order: type weight, half-life, source cap, mean, veto, minimum signals and staleness; hysteresis
    and dwell then make the held status. `type_weights` is sorted by type; types that are not in it have PPM.
    """

    window_us: int = WINDOW
    half_life_us: int | None = None
    healthy_ppm: int = 750_000
    warn_ppm: int = 500_000
    hysteresis_ppm: int = 0
    dwell_us: int = 0
    minimum_signals: int = 1
    stale_after_us: int | None = None
    vetoes: tuple[Veto, ...] = ()
    type_weights: tuple[tuple[str, int], ...] = ()
    source_cap_ppm: int | None = None

    @property
    def plain(self) -> bool:
        """Every signal counts with its own weight, whatever its source, type and age."""
        return self.half_life_us is None and not (self.vetoes or self.type_weights or self.source_cap_ppm is not None)

    @property
    def remembers(self) -> bool:
        """The held status depends on what was before."""
        return bool(self.hysteresis_ppm or self.dwell_us)


DEFAULT: Final = ScorePolicy()


class PolicyVersion(NamedTuple):
    """A policy as the log holds it: `seq` is the number of its POLICY entry, 0 for the default rules."""

    seq: int
    policy: ScorePolicy
    etag: str
    recorded_at: int | None
    provenance_id: str

    @property
    def score_etag(self) -> str:
        """What a score says of the policy it was computed under: empty for the default rules."""
        return self.etag if self.seq else ""


UNWRITTEN: Final = PolicyVersion(0, DEFAULT, DEFAULT_ETAG, None, "")


def encode_policy(policy: ScorePolicy) -> bytes:
    """The payload of a POLICY entry: JSON with sorted keys and no blanks, the complete rules and a version."""
    return json.dumps(
        {"version": _VERSION} | asdict(policy), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def decode_policy(payload: bytes) -> ScorePolicy:
    """The policy that `encode_policy` encoded."""
    words = json.loads(payload)
    del words["version"]
    vetoes: Sequence[tuple[str, int, str]] = words.pop("vetoes")
    type_weights: Sequence[tuple[str, int]] = words.pop("type_weights")
    return ScorePolicy(
        **words,
        vetoes=tuple(Veto(type_, below_q, Status(cap)) for type_, below_q, cap in vetoes),
        type_weights=tuple((type_, factor_ppm) for type_, factor_ppm in type_weights),
    )


def version_of(seq: int, payload: bytes, recorded_at: int, provenance_id: str) -> PolicyVersion:
    """The version that a POLICY entry holds."""
    return PolicyVersion(seq, decode_policy(payload), etag_of(seq, payload), recorded_at, provenance_id)


def etag_of(seq: int, payload: bytes) -> str:
    """Names the version: its number in hex, and 8 bytes of the payload's hash."""
    return f"{seq:x}-{sha256(payload).hexdigest()[:16]}"


def seq_of_etag(etag: str) -> int | None:
    """The number of the POLICY entry that an etag of `etag_of` names; None when it is none."""
    number, dash, rest = etag.partition("-")
    try:
        seq = int(number, 16) if dash and rest else 0
    except ValueError:
        return None
    return seq if 0 < seq <= _GREATEST_SEQ else None
