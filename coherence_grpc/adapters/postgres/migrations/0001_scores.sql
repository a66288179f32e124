-- Instants are microseconds since 1970-01-01T00:00Z; a weight_q is a weight times 10^9 and outgrows a bigint as a sum.
-- Tenants sort by bytes, as they do everywhere else.

CREATE TABLE coherence_meta (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    epoch BIGINT NOT NULL DEFAULT 1,
    thinned_until BIGINT NOT NULL DEFAULT 0
);
INSERT INTO coherence_meta DEFAULT VALUES ON CONFLICT DO NOTHING;

-- The first four columns are what readers outside the service may rely on. An UNKNOWN score is null and ranks last.
CREATE TABLE coherence_scores (
    tenant_id TEXT COLLATE "C" PRIMARY KEY,
    score NUMERIC(7, 6) CHECK (score BETWEEN 0 AND 1),
    status TEXT NOT NULL CHECK (status IN ('HEALTHY', 'WARN', 'CRITICAL', 'UNKNOWN')),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    signal_count BIGINT NOT NULL,
    weight_q NUMERIC(38, 0) NOT NULL,
    window_start BIGINT NOT NULL,
    window_end BIGINT NOT NULL,
    data_time BIGINT,
    valid_until BIGINT,
    as_of_seq BIGINT NOT NULL,
    head_hash BYTEA NOT NULL,
    signal_epoch BIGINT NOT NULL,
    score_epoch BIGINT NOT NULL,
    version BIGINT NOT NULL,
    computed_at BIGINT NOT NULL,
    source TEXT NOT NULL,
    policy_etag TEXT NOT NULL,
    backfill BOOLEAN NOT NULL,
    status_changed BOOLEAN NOT NULL,
    rank INTEGER NOT NULL GENERATED ALWAYS AS (coalesce((score * 1000000)::integer, 1000001)) STORED
);
CREATE INDEX coherence_scores_by_rank ON coherence_scores (rank, tenant_id);
CREATE INDEX coherence_scores_due ON coherence_scores (valid_until) WHERE valid_until IS NOT NULL;

CREATE TABLE coherence_score_history (
    tenant_id TEXT COLLATE "C" NOT NULL,
    score NUMERIC(7, 6),
    status TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    signal_count BIGINT NOT NULL,
    weight_q NUMERIC(38, 0) NOT NULL,
    window_start BIGINT NOT NULL,
    window_end BIGINT NOT NULL,
    data_time BIGINT,
    valid_until BIGINT,
    as_of_seq BIGINT NOT NULL,
    head_hash BYTEA NOT NULL,
    signal_epoch BIGINT NOT NULL,
    score_epoch BIGINT NOT NULL,
    version BIGINT NOT NULL,
    computed_at BIGINT NOT NULL,
    source TEXT NOT NULL,
    policy_etag TEXT NOT NULL,
    backfill BOOLEAN NOT NULL,
    status_changed BOOLEAN NOT NULL,
    PRIMARY KEY (tenant_id, version)
);
CREATE INDEX coherence_score_history_by_time ON coherence_score_history (tenant_id, window_end, version);

-- The newest policy of each tenant: a projection of the POLICY entries of the log.
CREATE TABLE score_policies (
    tenant_id TEXT COLLATE "C" PRIMARY KEY,
    revision BIGINT NOT NULL,
    etag TEXT NOT NULL,
    policy JSONB NOT NULL,
    recorded_at BIGINT NOT NULL
);

-- Signed witnesses of the log, which is kept in the other store.
CREATE TABLE ledger_checkpoints (
    tenant_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    head_hash BYTEA NOT NULL,
    sealed_at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

-- Who keeps the scores of which shard of tenants up to date, and who is there to take one. Times are of this server.
CREATE TABLE shard_leases (
    shard INTEGER PRIMARY KEY,
    holder TEXT NOT NULL DEFAULT '',
    expires_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity'
);
CREATE TABLE shard_holders (
    holder TEXT PRIMARY KEY,
    expires_at TIMESTAMPTZ NOT NULL
);
