-- Made-up rows for answers.sh: what the projector would have written for :count transfers in two partitions.

CREATE FUNCTION pg_temp.account(part integer, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    -- Book 1 lives in one partition, the other one has the first book of it.
    SELECT (lpad(to_hex((SELECT min(b) FROM generate_series(1, 20) b
                         WHERE partition_of((lpad(to_hex(b), 8, '0') || repeat('0', 24))::uuid, 2) = part)), 8, '0')
            || lpad(to_hex(number), 24, '0'))::uuid
$$;
CREATE TEMP TABLE books AS SELECT p, left(pg_temp.account(p, 0)::text, 8) AS book FROM generate_series(0, 1) p;

INSERT INTO transfers_p0000 (id, debit_account_id, credit_account_id, log_offset, time, ledger, partition, code, kind, flags, amount, booked_at)
SELECT gen_random_uuid(), (b.book || lpad(to_hex(d), 24, '0'))::uuid, (b.book || lpad(to_hex(c), 24, '0'))::uuid, 50001 + n, at, 978, 0,
       1, 'transfer', CASE WHEN n % 5 < 4 THEN 1024 ELSE 0 END, 1 + n % 9973, CASE WHEN n % 5 < 4 THEN at - lag * interval '20 days' END
  FROM books b, generate_series(0, :count / 2 - 1) n CROSS JOIN LATERAL (
       SELECT 1 + (random() * 49999)::integer AS d, 50000 - (random() * 49998 + n * 0)::integer AS other, random() ^ 3 + n * 0 AS lag,
              '2025-01-01Z'::timestamptz + n * (interval '365 days' / (:count / 2)) AS at) AS r
  CROSS JOIN LATERAL (SELECT CASE WHEN n % 5 = 0 AND b.p = 0 THEN 0 WHEN other = d THEN d % 50000 + 1 ELSE other END AS c) AS s
 WHERE b.p = 0;
INSERT INTO transfers_p0001 (id, debit_account_id, credit_account_id, log_offset, time, ledger, partition, code, kind, flags, amount, booked_at)
SELECT gen_random_uuid(), overlay(debit_account_id::text PLACING b.book FROM 1 FOR 8)::uuid,
       overlay(credit_account_id::text PLACING b.book FROM 1 FOR 8)::uuid,
       log_offset, time, ledger, 1, code, kind, flags, amount, booked_at
  FROM books b, transfers_p0000 WHERE b.p = 1;
INSERT INTO accounts SELECT pg_temp.account(p, n), n, '2024-12-31Z', 0, 978, p, 1, false, false, false, 0, 0, 0, 0
  FROM generate_series(0, 1) p, generate_series(0, 50000) n;
INSERT INTO positions SELECT p, 50001 + :count / 2, 1, decode(repeat('00', 32), 'hex'), '2026-01-01Z' FROM generate_series(0, 1) p;
VACUUM ANALYZE transfers_p0000, transfers_p0001;
UPDATE accounts a SET debits_posted = m.d, credits_posted = m.c, version = m.n
  FROM (SELECT account_id, sum(debit) AS d, sum(credit) AS c, count(*) AS n FROM movements GROUP BY 1) m WHERE m.account_id = a.id;
INSERT INTO daily_volumes SELECT partition, ledger, (time AT TIME ZONE 'UTC')::date, (coalesce(booked_at, time) AT TIME ZONE 'UTC')::date,
       count(*), sum(amount) FROM transfers GROUP BY 1, 2, 3, 4;
INSERT INTO booked_sums SELECT partition, account_id, booked_span((booked_at AT TIME ZONE 'UTC')::date), sum(debit), sum(credit)
  FROM movements WHERE booked_at IS NOT NULL GROUP BY 1, 2, 3;
-- Marks: of all accounts every 524,288 records, of each every 1,024 of its own.
CREATE TEMP TABLE running AS
SELECT account_id, partition, log_offset + 1 AS log_offset, row_number() OVER up AS n, sum(debit) OVER up AS d, sum(credit) OVER up AS c,
       coalesce(sum(debit) FILTER (WHERE booked_at IS NOT NULL) OVER up, 0) AS db,
       coalesce(sum(credit) FILTER (WHERE booked_at IS NOT NULL) OVER up, 0) AS cb
  FROM movements WINDOW up AS (PARTITION BY account_id ORDER BY log_offset ROWS UNBOUNDED PRECEDING);
INSERT INTO account_marks SELECT partition, account_id, log_offset, d, c, db, cb FROM running WHERE n % 1024 = 0;
INSERT INTO account_marks
SELECT DISTINCT ON (r.account_id, k) r.partition, r.account_id, k, d, c, db, cb
  FROM generate_series(524288, 50000 + :count / 2, 524288) k JOIN running r ON r.log_offset <= k
 ORDER BY r.account_id, k, r.log_offset DESC ON CONFLICT DO NOTHING;
INSERT INTO balance_marks SELECT partition, log_offset, count(*) FROM account_marks WHERE log_offset % 524288 = 0 GROUP BY 1, 2;
DROP TABLE running;
VACUUM ANALYZE;
