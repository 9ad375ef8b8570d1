-- What version 5 changed in the tables of partition {number}; see partition.sql.

DROP INDEX IF EXISTS arrivals_{suffix}_home_id_idx;
CREATE UNIQUE INDEX ON arrivals_{suffix} (home, place);
CREATE INDEX ON arrivals_{suffix} (home, pending_id) WHERE pending_id IS NOT NULL;
