-- The status that is held, since when, and what would take its place if it lasted; null in rows of a release that didn't
-- know of it: such a row holds its status. That release leaves these columns as they are when it replaces a row, so
-- they count only for the version that they were written with.

ALTER TABLE coherence_scores ADD COLUMN held_status TEXT;
ALTER TABLE coherence_scores ADD COLUMN held_since BIGINT;
ALTER TABLE coherence_scores ADD COLUMN held_pending TEXT;
ALTER TABLE coherence_scores ADD COLUMN held_version BIGINT;
ALTER TABLE coherence_score_history ADD COLUMN held_status TEXT;
ALTER TABLE coherence_score_history ADD COLUMN held_since BIGINT;
ALTER TABLE coherence_score_history ADD COLUMN held_pending TEXT;

-- What a portfolio is narrowed by and ordered by.
ALTER TABLE coherence_scores ADD COLUMN shown_status TEXT
    GENERATED ALWAYS AS (CASE WHEN held_version = version THEN coalesce(held_status, status) ELSE status END) STORED;
ALTER TABLE coherence_scores ADD COLUMN best_rank INTEGER
    GENERATED ALWAYS AS (coalesce(-(score * 1000000)::integer, 1000001)) STORED;
ALTER TABLE coherence_scores ADD COLUMN changed_rank BIGINT
    GENERATED ALWAYS AS (CASE WHEN held_version = version THEN coalesce(-held_since, 0) ELSE 0 END) STORED;
CREATE INDEX coherence_scores_by_best_rank ON coherence_scores (best_rank, tenant_id);
CREATE INDEX coherence_scores_by_change ON coherence_scores (changed_rank, tenant_id);

-- A year of history has a row a minute, and few changes.
CREATE INDEX coherence_score_history_changes ON coherence_score_history (tenant_id, window_end, version)
    WHERE status_changed;
