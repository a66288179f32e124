"""The columns of the tables of scores, as they are sent, filled and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.score_row import COLUMNS, row_of
from coherence_grpc.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.model import Score

# What goes into a row, with the types it is sent as. Sums of weights outgrow a bigint.
SENT: Final = dict.fromkeys(COLUMNS, "bigint") | {
    **dict.fromkeys(("tenant_id", "status", "source", "policy_etag", "held_status", "held_pending"), "text"),
    **dict.fromkeys(("backfill", "status_changed"), "boolean"),
    "weight_q": "numeric",
    "head_hash": "bytea",
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
# The row in place, which a release that didn't know of held statuses may have written over one that says them.
_HELD: Final = ("held_status", "held_since", "held_pending")
READ_IN_PLACE: Final = ", ".join(
    f"CASE WHEN held_version = version THEN {name} END" if name in _HELD else name for name in READ.split(", ")
)


def columns(scores: Sequence[Score]) -> Mapping[str, list[Any]]:
    """The scores, column by column."""
    rows = ((*row_of(score), shard_of(score.tenant_id)) for score in scores)
    return dict(zip(SENT, map(list, zip(*rows, strict=True)), strict=True))
