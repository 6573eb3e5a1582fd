-- Tokens are kept by the hash that names them, not by the secret. The rows of before are brought over by the program, which
-- can hash, and then `join_tokens_before` goes.
ALTER TABLE join_tokens RENAME TO join_tokens_before;
DROP INDEX join_tokens_by_expiry;

CREATE TABLE join_tokens (
  id         TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL,
  reusable   INTEGER NOT NULL,
  agent_id   TEXT,
  used_by    TEXT,
  used_from  TEXT,
  used_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX join_tokens_by_expiry ON join_tokens (expires_at);
CREATE INDEX join_tokens_by_agent ON join_tokens (agent_id);

-- Whose agent was evicted or banned. An empty key is everybody's.
CREATE TABLE join_token_bars (
  token     TEXT    NOT NULL REFERENCES join_tokens ON DELETE CASCADE,
  key       TEXT    NOT NULL,
  barred_by TEXT    NOT NULL,
  barred_at INTEGER NOT NULL,
  PRIMARY KEY (token, key)
) STRICT, WITHOUT ROWID;
