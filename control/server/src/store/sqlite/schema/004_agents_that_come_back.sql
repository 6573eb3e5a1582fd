-- By its key the server knows an agent whose SVID has ended, and by its count which of two keys is the later one. `member_until` is the latest end of what lets it come back.
ALTER TABLE agents ADD COLUMN key_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN new_key_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN issued_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN member_until INTEGER NOT NULL DEFAULT 0;

-- Who may not come back. By the token: that key, or everybody when it is empty. By what was signed for it until
-- `signed_until`: nobody, and `member_until` is the end of all that. An agent that is neither here nor known is one that this
-- database was restored without.
CREATE TABLE evictions (
  agent_id     TEXT    NOT NULL,
  token        TEXT    REFERENCES join_tokens ON DELETE SET NULL,
  key          TEXT    NOT NULL,
  evicted_by   TEXT    NOT NULL,
  evicted_at   INTEGER NOT NULL,
  signed_until INTEGER NOT NULL,
  member_until INTEGER NOT NULL,
  UNIQUE (token, key)
) STRICT;
CREATE INDEX evictions_by_agent ON evictions (agent_id);
CREATE INDEX evictions_by_end ON evictions (member_until) WHERE token IS NULL;
INSERT INTO evictions
  SELECT coalesce(agent_id, ''), token, key, barred_by, barred_at, barred_at, 0
  FROM join_token_bars JOIN join_tokens ON join_tokens.id = join_token_bars.token;
DROP TABLE join_token_bars;
