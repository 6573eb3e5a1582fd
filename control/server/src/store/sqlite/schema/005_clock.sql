-- The last time of day that was believed, in Unix seconds, with the boot of the machine that it belongs to and how many
-- seconds that had been up: what the clock shows later is compared with it. One row.
CREATE TABLE clock (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  seen_at INTEGER NOT NULL,
  boot    TEXT    NOT NULL,
  up      INTEGER NOT NULL
) STRICT;
-- A database of before knows times too: it was not made later than its newest entry.
INSERT INTO clock (id, seen_at, boot, up) SELECT 1, max(created_at), '', 0 FROM entries HAVING max(created_at) > 0;
