-- What version 6 changed in the tables of partition {number}; see partition.sql.

-- A guard that has come in a chain has an id of its home.
DROP INDEX IF EXISTS account_events_{suffix}_id_idx;
CREATE INDEX ON account_events_{suffix} (id);
CREATE INDEX ON arrivals_{suffix} (debit_account_id, log_offset) WHERE sides & 1 = 1;
