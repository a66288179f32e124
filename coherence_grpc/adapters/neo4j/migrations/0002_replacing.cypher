// What replaced signals were, and the policies of a log.
// Whoever reads while signals are replaced asks which were since the head that was read at.
CREATE INDEX superseded_since IF NOT EXISTS FOR (s:Superseded) ON (s.tenant_id, s.superseded_seq);
// When a signal is erased, so is all that it was.
CREATE INDEX superseded_key IF NOT EXISTS FOR (s:Superseded) ON (s.tenant_id, s.source, s.signal_id, s.ts);
CREATE INDEX policy_seq IF NOT EXISTS FOR (p:Policy) ON (p.tenant_id, p.seq);
