"""A score as a row of values, in one order for every store that has tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.model import Score, ScoreSource, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS: Final = (
    *("tenant_id", "score_ppm", "status", "signal_count", "weight_q", "window_start", "window_end", "data_time"),
    *("valid_until", "as_of_seq", "head_hash", "signal_epoch", "score_epoch", "version", "computed_at", "source"),
    *("policy_etag", "backfill", "status_changed"),
)


def row_of(score: Score) -> tuple[Any, ...]:
    """The values of COLUMNS; `weight_q` outgrows 64 bits."""
    return (
        score.tenant_id,
        score.score_ppm,
        score.status.value,
        score.signal_count,
        score.weight_q,
        score.window_start,
        score.window_end,
        score.data_time,
        score.valid_until,
        score.as_of_seq,
        score.head_hash,
        score.signal_epoch,
        score.score_epoch,
        score.version,
        score.computed_at,
        score.source.value,
        score.policy_etag,
        score.backfill,
        score.status_changed,
    )


def score_of(row: Sequence[Any]) -> Score:
    """The score of these values as a driver has them: numbers for booleans, a text or a decimal for weight_q."""
    values = dict(zip(COLUMNS, row, strict=True))
    return Score(
        **values
        | {
            "status": Status(values["status"]),
            "weight_q": int(values["weight_q"]),
            "source": ScoreSource(values["source"]),
            "backfill": bool(values["backfill"]),
            "status_changed": bool(values["status_changed"]),
        }
    )
