-- Tables of partition {number} that version 4 brought; see partition.sql.

CREATE TABLE under_way_{suffix} PARTITION OF under_way FOR VALUES IN ({number});
ALTER TABLE under_way_{suffix} ADD PRIMARY KEY (log_offset);
CREATE UNIQUE INDEX ON under_way_{suffix} (id);

CREATE TABLE arrivals_{suffix} PARTITION OF arrivals FOR VALUES IN ({number});
ALTER TABLE arrivals_{suffix} ADD PRIMARY KEY (log_offset);
CREATE UNIQUE INDEX ON arrivals_{suffix} (home, id);
CREATE INDEX ON arrivals_{suffix} (credit_account_id, log_offset);
