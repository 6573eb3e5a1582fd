-- Times are Unix seconds. `seq` gives each table its creation order, which paging follows.

CREATE TABLE bundles (
  trust_domain TEXT PRIMARY KEY,
  refresh_hint INTEGER NOT NULL,
  sequence     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE bundle_x509_authorities (
  trust_domain TEXT    NOT NULL REFERENCES bundles ON DELETE CASCADE,
  position     INTEGER NOT NULL,
  der          BLOB    NOT NULL,
  tainted      INTEGER NOT NULL,
  PRIMARY KEY (trust_domain, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE bundle_jwt_authorities (
  trust_domain TEXT    NOT NULL REFERENCES bundles ON DELETE CASCADE,
  position     INTEGER NOT NULL,
  key_id       TEXT    NOT NULL,
  spki_der     BLOB    NOT NULL,
  expires_at   INTEGER NOT NULL,
  tainted      INTEGER NOT NULL,
  PRIMARY KEY (trust_domain, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
  seq                        INTEGER PRIMARY KEY AUTOINCREMENT,
  id                         TEXT    NOT NULL UNIQUE,
  spiffe_id                  TEXT    NOT NULL,
  parent_id                  TEXT    NOT NULL,
  x509_svid_ttl              INTEGER NOT NULL,
  jwt_svid_ttl               INTEGER NOT NULL,
  admin                      INTEGER NOT NULL,
  downstream                 INTEGER NOT NULL,
  expires_at                 INTEGER NOT NULL,
  revision                   INTEGER NOT NULL,
  store_svid                 INTEGER NOT NULL,
  hint                       TEXT    NOT NULL,
  created_at                 INTEGER NOT NULL,
  disable_x509_svid_prefetch INTEGER NOT NULL,
  jwt_svid_include_jti       INTEGER NOT NULL
) STRICT;
CREATE INDEX entries_by_spiffe_id ON entries (spiffe_id, parent_id);
CREATE INDEX entries_by_parent_id ON entries (parent_id);
CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at > 0;

CREATE TABLE entry_selectors (
  entry    INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
  position INTEGER NOT NULL,
  type     TEXT    NOT NULL,
  value    TEXT    NOT NULL,
  PRIMARY KEY (entry, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX entry_selectors_by_value ON entry_selectors (type, value, entry);

CREATE TABLE entry_dns_names (
  entry    INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
  position INTEGER NOT NULL,
  name     TEXT    NOT NULL,
  PRIMARY KEY (entry, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE entry_federates_with (
  entry        INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
  position     INTEGER NOT NULL,
  trust_domain TEXT    NOT NULL REFERENCES bundles,
  PRIMARY KEY (entry, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX entry_federates_with_by_name ON entry_federates_with (trust_domain, entry);

CREATE TABLE agents (
  seq              INTEGER PRIMARY KEY AUTOINCREMENT,
  id               TEXT    NOT NULL UNIQUE,
  attestation_type TEXT    NOT NULL,
  serial           TEXT    NOT NULL,
  expires_at       INTEGER NOT NULL,
  new_serial       TEXT    NOT NULL,
  new_expires_at   INTEGER NOT NULL,
  can_reattest     INTEGER NOT NULL,
  agent_version    TEXT    NOT NULL
) STRICT;
CREATE INDEX agents_by_expiry ON agents (expires_at);

CREATE TABLE agent_selectors (
  agent    INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
  position INTEGER NOT NULL,
  type     TEXT    NOT NULL,
  value    TEXT    NOT NULL,
  PRIMARY KEY (agent, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX agent_selectors_by_value ON agent_selectors (type, value, agent);

CREATE TABLE join_tokens (
  token      TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL,
  used_by    TEXT,
  used_from  TEXT,
  used_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX join_tokens_by_expiry ON join_tokens (expires_at);

CREATE TABLE ca_journals (
  name TEXT PRIMARY KEY,
  data BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a position is never given twice, not even after all events were pruned.
CREATE TABLE events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  kind     INTEGER NOT NULL,
  key      TEXT    NOT NULL
) STRICT;
