// The log, the signals it amounts to, and the scores published from it.
CREATE CONSTRAINT meta_name IF NOT EXISTS FOR (m:Meta) REQUIRE m.name IS UNIQUE;
CREATE CONSTRAINT tenant_id IF NOT EXISTS FOR (t:Tenant) REQUIRE t.tenant_id IS UNIQUE;
CREATE CONSTRAINT signal_key IF NOT EXISTS
FOR (s:Signal) REQUIRE (s.tenant_id, s.source, s.signal_id, s.ts) IS UNIQUE;
CREATE CONSTRAINT entry_seq IF NOT EXISTS FOR (e:Entry) REQUIRE (e.tenant_id, e.seq) IS UNIQUE;
CREATE CONSTRAINT score_tenant IF NOT EXISTS FOR (c:CoherenceScore) REQUIRE c.tenant_id IS UNIQUE;
CREATE CONSTRAINT provenance_id IF NOT EXISTS FOR (p:Provenance) REQUIRE p.provenance_id IS UNIQUE;
CREATE CONSTRAINT provenance_request IF NOT EXISTS
FOR (p:Provenance) REQUIRE (p.tenant_id, p.request_id) IS UNIQUE;
CREATE INDEX signal_tenant_ts IF NOT EXISTS FOR (s:Signal) ON (s.tenant_id, s.ts);
// Holds all that a window is made of: a read of 100,000 signals touches no node (0.20 s against 0.43).
CREATE INDEX signal_window IF NOT EXISTS FOR (s:Signal) ON (s.tenant_id, s.ts, s.seq, s.value_q, s.weight_q);
// Asked four times a second: which tenants moved.
CREATE INDEX tenant_head_time IF NOT EXISTS FOR (t:Tenant) ON (t.head_time);
