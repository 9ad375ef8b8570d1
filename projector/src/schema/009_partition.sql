-- What version 9 brought for partition {number}; see partition.sql. What has no time of business costs these indexes nothing.

CREATE INDEX ON transfers_{suffix} (debit_account_id, booked_at) WHERE booked_at IS NOT NULL;
CREATE INDEX ON transfers_{suffix} (credit_account_id, booked_at) WHERE booked_at IS NOT NULL;
CREATE INDEX ON arrivals_{suffix} (credit_account_id, booked_at) WHERE booked_at IS NOT NULL;

-- Rows are updated in place as long as their day lasts, so their pages are left half empty.
CREATE TABLE daily_volumes_{suffix} PARTITION OF daily_volumes FOR VALUES IN ({number}) WITH (fillfactor = 50);
ALTER TABLE daily_volumes_{suffix} ADD PRIMARY KEY (ledger, day, booked_day);
INSERT INTO daily_volumes_{suffix} (partition, ledger, day, booked_day, movements, amount)
SELECT {number}, ledger, (time AT TIME ZONE 'UTC')::date, (coalesce(booked_at, time) AT TIME ZONE 'UTC')::date,
       count(*), sum(amount)
  FROM transfers_{suffix} WHERE kind IN ('transfer', 'post') AND flags & 2048 <> 2048 GROUP BY 2, 3, 4;
