-- A reusable token takes another key while it lives; `used_*` then tell of the latest.
ALTER TABLE join_tokens ADD COLUMN reusable INTEGER NOT NULL DEFAULT 0;
