"""A score as a row of the tables, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.model import Score, ScoreSource, Status
from coherence_grpc.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What goes into a row, with the types it is sent as. Sums of weights outgrow a bigint.
SENT: Final = {
    "tenant_id": "text",
    "score_ppm": "bigint",
    "status": "text",
    "signal_count": "bigint",
    "weight_q": "numeric",
    "window_start": "bigint",
    "window_end": "bigint",
    "data_time": "bigint",
    "valid_until": "bigint",
    "as_of_seq": "bigint",
    "head_hash": "bytea",
    "signal_epoch": "bigint",
    "score_epoch": "bigint",
    "version": "bigint",
    "computed_at": "bigint",
    "source": "text",
    "policy_etag": "text",
    "backfill": "boolean",
    "status_changed": "boolean",
    "shard": "smallint",
}
_SAME: Final = ", ".join(name for name in SENT if name not in {"tenant_id", "score_ppm", "shard"})
# The columns of the tables, and what fills them from a row that was sent: a score has 6 decimals, exactly.
FILLED: Final = f"tenant_id, score, updated_at, {_SAME}"
FILLING: Final = (
    "tenant_id, score_ppm::numeric / 1000000, TIMESTAMPTZ 'epoch' + window_end * INTERVAL '1 microsecond', " + _SAME
)
# A row as it is read: in the order of what was sent.
READ: Final = f"tenant_id, (score * 1000000)::bigint, {_SAME}"


def columns(scores: Sequence[Score]) -> Mapping[str, list[Any]]:
    """The scores, column by column."""
    return dict(zip(SENT, map(list, zip(*map(_row, scores), strict=True)), strict=True))


def _row(score: Score) -> tuple[str | int | bytes | None, ...]:
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
        shard_of(score.tenant_id),
    )


def score_of(row: Sequence[Any]) -> Score:
    """The score that a row of READ holds."""
    tenant_id, score_ppm, status, signal_count, weight_q, window_start, window_end, data_time, valid_until = row[:9]
    as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at, source, policy_etag = row[9:17]
    backfill, status_changed = row[17:]
    return Score(
        tenant_id=tenant_id,
        score_ppm=score_ppm,
        status=Status(status),
        signal_count=signal_count,
        weight_q=int(weight_q),
        window_start=window_start,
        window_end=window_end,
        data_time=data_time,
        valid_until=valid_until,
        as_of_seq=as_of_seq,
        head_hash=head_hash,
        signal_epoch=signal_epoch,
        score_epoch=score_epoch,
        version=version,
        computed_at=computed_at,
        source=ScoreSource(source),
        policy_etag=policy_etag,
        backfill=backfill,
        status_changed=status_changed,
    )
