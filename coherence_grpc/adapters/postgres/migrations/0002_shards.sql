-- Each holder looks for the rows of its own shards that fell due. -1: written by a release that didn't say.

ALTER TABLE coherence_scores ADD COLUMN shard SMALLINT NOT NULL DEFAULT -1;
CREATE INDEX coherence_scores_due_by_shard ON coherence_scores (shard, valid_until) WHERE valid_until IS NOT NULL;
