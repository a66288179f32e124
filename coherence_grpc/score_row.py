"""A score as a row of values, in one order for every store that has tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.model import Held, Score, ScoreSource, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS: Final = (
    *("tenant_id", "score_ppm", "status", "signal_count", "weight_q", "window_start", "window_end", "data_time"),
    *("valid_until", "as_of_seq", "head_hash", "signal_epoch", "score_epoch", "version", "computed_at", "source"),
    *("policy_etag", "backfill", "status_changed", "held_status", "held_since", "held_pending"),
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
        *_held_values(score.held),
    )


def score_of(row: Sequence[Any]) -> Score:
    """The score of these values as a driver has them: numbers for booleans, a text or a decimal for weight_q.

    A row of a release that didn't know of held statuses holds its status, since it is not known when.
    """
    # Taken apart by hand: this runs for every row that is read, and with a dictionary it takes five times as long.
    tenant_id, score_ppm, word, signal_count, weight_q, window_start, window_end, data_time, *rest = row
    valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at, source, *rest = rest
    policy_etag, backfill, status_changed, *held = rest
    status = Status(word)
    return Score(
        tenant_id=tenant_id,
        score_ppm=score_ppm,
        status=status,
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
        backfill=bool(backfill),
        status_changed=bool(status_changed),
        held=_held(status, *held),
    )


def _held(status: Status, word: str | None, since: int | None, pending: str | None) -> Held:
    if not word:
        return Held(status, None)
    return Held(Status(word), since, _pending(pending) if pending else ())


def _held_values(held: Held | None) -> tuple[str | None, int | None, str | None]:
    if held is None:
        return None, None, None
    return held.status.value, held.since, " ".join(f"{status}:{since}" for status, since in held.pending) or None


def _pending(text: str) -> tuple[tuple[Status, int], ...]:
    parts = (part.partition(":") for part in text.split())
    return tuple((Status(word), int(since)) for word, _, since in parts)
