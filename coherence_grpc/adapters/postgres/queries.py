"""Every statement of the score store, with the index it goes by."""

from __future__ import annotations

from functools import cache
from typing import Final

from coherence_grpc.adapters.postgres.score_rows import FILLED, FILLING, READ, READ_IN_PLACE, SENT
from coherence_grpc.ports import PortfolioOrder

EPOCH: Final = "SELECT epoch FROM coherence_meta"

_GIVEN: Final = ", ".join(f"%({name})s::{type_}[]" for name, type_ in SENT.items())
_PLACED: Final = ", ".join(f"{name} = excluded.{name}" for name in [*FILLED.split(", ")[1:], "shard", "held_version"])
# Rows are locked in the order of their tenants, so that two publishers can't wait for each other. The first version
# makes the row, each other one needs it. What is in place twice is in the history once. A row computed before the
# scores were rebuilt is of another epoch and loses; the answer names the present one. By the primary keys.
PUBLISH: Final = f"""
WITH given AS (
    SELECT * FROM unnest({_GIVEN}) AS given ({", ".join(SENT)})
    WHERE score_epoch = (SELECT epoch FROM coherence_meta)
), placed AS (
    INSERT INTO coherence_scores AS there ({FILLED}, shard, held_version)
    SELECT {FILLING}, shard, version FROM given
    WHERE version = 1 OR EXISTS (SELECT FROM coherence_scores there WHERE there.tenant_id = given.tenant_id)
    ORDER BY tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET {_PLACED}
    WHERE (excluded.signal_epoch, excluded.as_of_seq, excluded.window_end)
            >= (there.signal_epoch, there.as_of_seq, there.window_end)
        AND excluded.version - there.version BETWEEN 0 AND 1
    RETURNING tenant_id
), kept AS (
    INSERT INTO coherence_score_history ({FILLED})
    SELECT {FILLING} FROM given JOIN placed USING (tenant_id)
    ON CONFLICT (tenant_id, version) DO NOTHING
)
SELECT epoch, ARRAY(SELECT tenant_id FROM placed) FROM coherence_meta
"""  # noqa: S608 - our own columns; values are parameters

_ROWS: Final = f"SELECT {READ_IN_PLACE} FROM coherence_scores "  # noqa: S608 - our own columns
_SHOWN: Final = f"SELECT {READ} FROM coherence_score_history "  # noqa: S608 - our own columns

# By the primary key.
GET: Final = _ROWS + "WHERE tenant_id = ANY(%(tenant_ids)s)"

# A range of the order's index: coherence_scores_by_rank, …_by_best_rank, …_by_change, or the primary key.
_RANKS: Final = {
    PortfolioOrder.WORST_FIRST: "rank",
    PortfolioOrder.BEST_FIRST: "best_rank",
    PortfolioOrder.LAST_CHANGED: "changed_rank",
}
_MATCHING: Final = " AND status = ANY(%(statuses)s) AND shown_status = ANY(%(held)s)"
# Narrowed further: by the index that is shortest, the primary key or coherence_scores_by_rank, or that of the order.
# The planner takes each for a short cut, so it is there only when asked for. No letter of a tenant's id is after `~`.
_BOUNDED: Final = " AND rank BETWEEN %(lowest)s AND %(highest)s"
_OF: Final = " AND tenant_id = ANY(%(tenants)s)"
_BEGINNING: Final = " AND tenant_id >= %(prefix)s AND tenant_id < %(prefix)s || '~'"


@cache
def portfolio(order: PortfolioOrder, *, bounded: bool, of: bool, beginning: bool) -> str:
    """A page in that order: of scores within bounds, `of` tenants that are named, of those with a prefix."""
    rank = _RANKS.get(order)
    beyond = "tenant_id > %(tenant_id)s" if rank is None else f"({rank}, tenant_id) > (%(rank)s, %(tenant_id)s)"
    narrowed = _MATCHING + _BOUNDED * bounded + _OF * of + _BEGINNING * beginning
    by = "tenant_id" if rank is None else f"{rank}, tenant_id"
    return f"{_ROWS} WHERE {beyond} {narrowed} ORDER BY {by} LIMIT %(limit)s"


# The beginning of coherence_scores_due.
DUE: Final = """
SELECT tenant_id FROM coherence_scores WHERE valid_until <= %(before)s ORDER BY valid_until LIMIT %(limit)s
"""
# Of each shard the beginning of coherence_scores_due_by_shard. Compared as one, instant and shard leave no other index:
# in that of all instants the planner, who expects few to be due, walks past every row of a holder that is stuck.
_EACH: Final = """
unnest(%(shards)s::smallint[]) AS held (shard) CROSS JOIN LATERAL (
    SELECT tenant_id, valid_until FROM coherence_scores
    WHERE shard = held.shard AND (shard, valid_until) <= (held.shard, %(before)s) AND valid_until IS NOT NULL
    ORDER BY shard, valid_until LIMIT %(limit)s) first
"""
DUE_OF: Final = f"SELECT tenant_id FROM {_EACH} ORDER BY valid_until LIMIT %(limit)s"  # noqa: S608 - our own text
NEXT_DUE_OF: Final = f"SELECT epoch, (SELECT min(valid_until) FROM {_EACH}) FROM coherence_meta"  # noqa: S608 - our own text
# As DUE; a reader learns of a rebuild here.
NEXT_DUE: Final = "SELECT epoch, (SELECT min(valid_until) FROM coherence_scores) FROM coherence_meta"

# By the primary key.
HISTORY: Final = (
    _SHOWN + "WHERE tenant_id = %(tenant_id)s AND version > %(after_version)s ORDER BY version LIMIT %(limit)s"
)

# One entry of coherence_score_history_by_time.
VERSION_AT: Final = """
SELECT version FROM coherence_score_history WHERE tenant_id = %(tenant_id)s AND window_end < %(instant)s
ORDER BY window_end DESC, version DESC LIMIT 1
"""

# For each instant one entry of coherence_score_history_by_time.
SHOWN_AT: Final = f"""
SELECT shown.* FROM unnest(%(tenants)s::text[], %(instants)s::bigint[]) WITH ORDINALITY AS asked (whose, instant, nth)
LEFT JOIN LATERAL (
    {_SHOWN} WHERE tenant_id = asked.whose AND window_end <= asked.instant
    ORDER BY window_end DESC, version DESC LIMIT 1
) shown ON true
ORDER BY nth
"""  # noqa: S608 - our own columns

# A range of coherence_score_history_changes.
CHANGES: Final = (
    _SHOWN
    + """
WHERE status_changed AND tenant_id = %(tenant_id)s AND window_end > %(start)s AND window_end <= %(end)s
ORDER BY window_end, version LIMIT %(limit)s
"""
)

# A row goes when its predecessor had its statuses and its successor its minute. Before `thinned_until` all such went.
# Tenant by tenant a range of coherence_score_history_by_time; neighbours by the primary key. OFFSET 0 keeps it so.
THIN: Final = """
WITH dropped AS (
    DELETE FROM coherence_score_history gone USING (
        SELECT spare.tenant_id, spare.version FROM coherence_scores s CROSS JOIN LATERAL (
            SELECT h.tenant_id, h.version FROM coherence_score_history h
            WHERE h.tenant_id = s.tenant_id AND NOT h.status_changed
                AND h.window_end >= (SELECT thinned_until FROM coherence_meta) AND h.window_end < %(end)s
                AND (h.status, coalesce(h.held_status, h.status)) = (
                    SELECT p.status, coalesce(p.held_status, p.status) FROM coherence_score_history p
                    WHERE p.tenant_id = h.tenant_id AND p.version < h.version ORDER BY p.version DESC LIMIT 1)
                AND h.window_end / %(minute)s = (
                    SELECT n.window_end / %(minute)s FROM coherence_score_history n
                    WHERE n.tenant_id = h.tenant_id AND n.version > h.version ORDER BY n.version LIMIT 1)
            OFFSET 0
        ) spare LIMIT %(limit)s
    ) spare
    WHERE gone.tenant_id = spare.tenant_id AND gone.version = spare.version
    RETURNING 1
)
SELECT count(*) FROM dropped
"""
THINNED: Final = "UPDATE coherence_meta SET thinned_until = %(done)s WHERE thinned_until < %(done)s RETURNING true"
