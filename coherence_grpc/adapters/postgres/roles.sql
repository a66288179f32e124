-- The role that a running service needs, and no more. Run it as the role that migrates, after each migration, with the
-- service's schema first in the search path:
--
--     psql "$POSTGRES_URI" -v ON_ERROR_STOP=1 -c 'SET search_path = public' -f roles.sql
--     psql "$POSTGRES_URI" -c "CREATE ROLE coherence_serving LOGIN PASSWORD '...' IN ROLE coherence_app"
--
-- `coherence migrate up` and `coherence rebuild-scores` need the role that owns the tables.

DO $$
BEGIN
    -- Two at once in a schema would change the same rights.
    PERFORM pg_advisory_xact_lock(hashtextextended('coherence roles', 0));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'coherence_app') THEN
        BEGIN
            CREATE ROLE coherence_app NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            -- A lock is of one database, roles are of all: from another one it was made meanwhile.
            NULL;
        END;
    END IF;
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO coherence_app', current_schema());
END
$$;

REVOKE ALL ON coherence_meta, coherence_scores, coherence_score_history, score_policies, ledger_checkpoints,
    shard_leases, shard_holders, schema_version FROM PUBLIC, coherence_app;

GRANT SELECT ON schema_version, coherence_meta TO coherence_app;
GRANT UPDATE (thinned_until) ON coherence_meta TO coherence_app;
GRANT SELECT, INSERT, UPDATE ON coherence_scores TO coherence_app;
-- Thinning deletes; what was shown is never changed.
GRANT SELECT, INSERT, DELETE ON coherence_score_history TO coherence_app;
GRANT SELECT, INSERT, UPDATE ON score_policies TO coherence_app;
-- A witness that could be changed would be none.
GRANT SELECT, INSERT ON ledger_checkpoints TO coherence_app;
GRANT SELECT, INSERT, UPDATE ON shard_leases TO coherence_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON shard_holders TO coherence_app;
