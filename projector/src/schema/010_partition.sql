-- What version 10 brought for partition {number}; see partition.sql. An upgrade sums up what has a time of business; marks are
-- written from then on, and for what is older by a rebuild.

CREATE INDEX ON arrivals_{suffix} (debit_account_id, booked_at) WHERE booked_at IS NOT NULL AND sides & 1 = 1;
CREATE INDEX ON transfers_{suffix} (booked_at) WHERE booked_at IS NOT NULL;
CREATE INDEX ON arrivals_{suffix} (booked_at) WHERE booked_at IS NOT NULL;

CREATE TABLE account_marks_{suffix} PARTITION OF account_marks FOR VALUES IN ({number});
ALTER TABLE account_marks_{suffix} ADD PRIMARY KEY (account_id, log_offset);
CREATE INDEX ON account_marks_{suffix} (log_offset);

CREATE TABLE balance_marks_{suffix} PARTITION OF balance_marks FOR VALUES IN ({number});
ALTER TABLE balance_marks_{suffix} ADD PRIMARY KEY (log_offset);

-- A span is updated in place as long as it lasts.
CREATE TABLE booked_sums_{suffix} PARTITION OF booked_sums FOR VALUES IN ({number}) WITH (fillfactor = 70);
ALTER TABLE booked_sums_{suffix} ADD PRIMARY KEY (account_id, first_day);
INSERT INTO booked_sums_{suffix} (partition, account_id, first_day, debits, credits)
SELECT {number}, account_id, booked_span((booked_at AT TIME ZONE 'UTC')::date), sum(debit), sum(credit)
  FROM movements WHERE partition = {number} AND booked_at IS NOT NULL GROUP BY 2, 3;
