"""Every statement of the score store, with the index it goes by."""

from __future__ import annotations

from typing import Final

from coherence_grpc.adapters.postgres.score_rows import FILLED, FILLING, READ, SENT

EPOCH: Final = "SELECT epoch FROM coherence_meta"

_GIVEN: Final = ", ".join(f"%({name})s::{type_}[]" for name, type_ in SENT.items())
_PLACED: Final = ", ".join(f"{name} = excluded.{name}" for name in [*FILLED.split(", ")[1:], "shard"])
# Rows are locked in the order of their tenants, so that two publishers can't wait for each other. The first version
# makes the row, each other one needs it. What is in place twice is in the history once. A row computed before the
# scores were rebuilt is of another epoch and loses; the answer names the present one. By the primary keys.
PUBLISH: Final = f"""
WITH given AS (
    SELECT * FROM unnest({_GIVEN}) AS given ({", ".join(SENT)})
    WHERE score_epoch = (SELECT epoch FROM coherence_meta)
), placed AS (
    INSERT INTO coherence_scores AS there ({FILLED}, shard)
    SELECT {FILLING}, shard FROM given
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

_ROWS: Final = f"SELECT {READ} FROM coherence_scores "  # noqa: S608 - our own columns
_SHOWN: Final = f"SELECT {READ} FROM coherence_score_history "  # noqa: S608 - our own columns

# By the primary key.
GET: Final = _ROWS + "WHERE tenant_id = ANY(%(tenant_ids)s)"

# A range of coherence_scores_by_rank.
_RANKED: Final = """
WHERE (rank, tenant_id) > (%(rank)s, %(tenant_id)s) AND rank BETWEEN %(lowest)s AND %(highest)s
    AND status = ANY(%(statuses)s)
"""
_PAGE: Final = "ORDER BY rank, tenant_id LIMIT %(limit)s"
PORTFOLIO: Final = _ROWS + _RANKED + _PAGE
# The same among a few tenants: by the primary key, or a range of that index where it is shorter.
PORTFOLIO_OF: Final = _ROWS + _RANKED + "AND tenant_id = ANY(%(tenants)s) " + _PAGE

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

# A row goes when its predecessor had its status and its successor its minute. Rows before `thinned_until` went already.
# Tenant by tenant a range of coherence_score_history_by_time; neighbours by the primary key. OFFSET 0 keeps it so.
THIN: Final = """
WITH dropped AS (
    DELETE FROM coherence_score_history gone USING (
        SELECT spare.tenant_id, spare.version FROM coherence_scores s CROSS JOIN LATERAL (
            SELECT h.tenant_id, h.version FROM coherence_score_history h
            WHERE h.tenant_id = s.tenant_id AND NOT h.status_changed
                AND h.window_end >= (SELECT thinned_until FROM coherence_meta) AND h.window_end < %(end)s
                AND h.status = (
                    SELECT p.status FROM coherence_score_history p
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
