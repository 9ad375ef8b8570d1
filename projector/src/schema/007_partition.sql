-- What version 7 changed in the tables of partition {number}; see partition.sql.

-- What has come from another partition has an id of its home.
DROP INDEX IF EXISTS under_way_{suffix}_id_idx;
CREATE INDEX ON under_way_{suffix} (id);
