-- Tables of partition {number} that version 1 brought. The projector writes to them directly, so that
-- PostgreSQL need not route rows. Keys cover a single partition, because offsets are unique only there, and
-- so are the ids of in-transit accounts.

CREATE TABLE accounts_{suffix} PARTITION OF accounts FOR VALUES IN ({number}) WITH (fillfactor = 50);
ALTER TABLE accounts_{suffix} ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON accounts_{suffix} (log_offset);

CREATE TABLE transfers_{suffix} PARTITION OF transfers FOR VALUES IN ({number});
ALTER TABLE transfers_{suffix} ADD PRIMARY KEY (log_offset);
CREATE UNIQUE INDEX ON transfers_{suffix} (id);
CREATE INDEX ON transfers_{suffix} (debit_account_id, log_offset);
CREATE INDEX ON transfers_{suffix} (credit_account_id, log_offset);
CREATE INDEX ON transfers_{suffix} USING brin (time);

CREATE TABLE reservations_{suffix} PARTITION OF reservations FOR VALUES IN ({number}) WITH (fillfactor = 70);
ALTER TABLE reservations_{suffix} ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON reservations_{suffix} (log_offset);
CREATE INDEX ON reservations_{suffix} (log_offset) WHERE state = 'pending';

CREATE TABLE account_events_{suffix} PARTITION OF account_events FOR VALUES IN ({number});
ALTER TABLE account_events_{suffix} ADD PRIMARY KEY (log_offset);
CREATE UNIQUE INDEX ON account_events_{suffix} (id);
CREATE INDEX ON account_events_{suffix} (account_id, log_offset);

CREATE TABLE refused_events_{suffix} PARTITION OF refused_events FOR VALUES IN ({number});
ALTER TABLE refused_events_{suffix} ADD PRIMARY KEY (log_offset);
CREATE INDEX ON refused_events_{suffix} (id);

CREATE TABLE opaque_records_{suffix} PARTITION OF opaque_records FOR VALUES IN ({number});
ALTER TABLE opaque_records_{suffix} ADD PRIMARY KEY (log_offset);
CREATE UNIQUE INDEX ON opaque_records_{suffix} (id);
