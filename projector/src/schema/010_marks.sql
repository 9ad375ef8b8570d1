-- Version 10: marks, from which functions count on to a time, so that no question sums up all rows on one side of it; and sums of
-- what has a time of business. See ANSWERS.md.

CREATE TABLE account_marks (
    partition      integer NOT NULL,
    account_id     uuid NOT NULL,
    log_offset     bigint NOT NULL,
    debits_posted  numeric NOT NULL,
    credits_posted numeric NOT NULL,
    debits_booked  numeric NOT NULL,
    credits_booked numeric NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE account_marks IS
    'What an account had moved before an offset. Written about every 1,024 changes of the account, and for all accounts where table balance_marks says so. Without a row, answers take longer and are the same.';
COMMENT ON COLUMN account_marks.partition IS 'Partition of the log.';
COMMENT ON COLUMN account_marks.account_id IS 'Id of the account; of a striped one, its stripe of the partition.';
COMMENT ON COLUMN account_marks.log_offset IS 'Records below this offset count.';
COMMENT ON COLUMN account_marks.debits_posted IS 'Moved out of the account. What stripes of it give each other is left out here and below.';
COMMENT ON COLUMN account_marks.credits_posted IS 'Moved into the account.';
COMMENT ON COLUMN account_marks.debits_booked IS 'Of debits_posted, what has a time of business.';
COMMENT ON COLUMN account_marks.credits_booked IS 'Of credits_posted, what has a time of business.';

CREATE TABLE balance_marks (
    partition  integer NOT NULL,
    log_offset bigint NOT NULL,
    accounts   bigint NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE balance_marks IS 'Offsets at which all accounts of the partition that had moved anything have a row in account_marks.';
COMMENT ON COLUMN balance_marks.partition IS 'Partition of the log.';
COMMENT ON COLUMN balance_marks.log_offset IS 'Offset of those rows.';
COMMENT ON COLUMN balance_marks.accounts IS 'How many accounts had changed before it. Each of them has a row.';

CREATE TABLE booked_sums (
    partition  integer NOT NULL,
    account_id uuid NOT NULL,
    first_day  date NOT NULL,
    debits     numeric NOT NULL,
    credits    numeric NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE booked_sums IS
    'What an account has moved by time of business, summed up over spans of 32 days. Only of transfers that have such a time.';
COMMENT ON COLUMN booked_sums.partition IS 'Partition of the log.';
COMMENT ON COLUMN booked_sums.account_id IS 'Id of the account.';
COMMENT ON COLUMN booked_sums.first_day IS 'First day of the span, UTC; spans are counted from 24 November 4714 BC. -infinity before that.';
COMMENT ON COLUMN booked_sums.debits IS 'Moved out of the account in the span.';
COMMENT ON COLUMN booked_sums.credits IS 'Moved into the account in the span.';

CREATE FUNCTION booked_span(day date)
RETURNS date LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN isfinite(day) THEN day - (day - '4714-11-24 BC'::date) % 32 ELSE day END
$$;
COMMENT ON FUNCTION booked_span IS 'First day of the span of 32 days that a day is in, as table booked_sums counts them.';

CREATE FUNCTION sums_before(account uuid, part integer, before bigint, OUT debits numeric, OUT credits numeric,
                            OUT debits_booked numeric, OUT credits_booked numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    below record;
    above record;
    moved record;
BEGIN
    IF account >= 'ffffffff-0000-0000-0000-000000000000' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an in-transit account has no statement: each partition has its own',
            HINT = 'View in_transit has their balances.';
    END IF;
    SELECT k.log_offset, k.debits_posted, k.credits_posted, k.debits_booked, k.credits_booked INTO below
      FROM account_marks k WHERE k.partition = part AND k.account_id = account AND k.log_offset <= before
     ORDER BY k.log_offset DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT 0::bigint AS log_offset, 0::numeric AS debits_posted, 0::numeric AS credits_posted, 0::numeric AS debits_booked,
               0::numeric AS credits_booked INTO below;
    END IF;
    SELECT k.log_offset, k.debits_posted, k.credits_posted, k.debits_booked, k.credits_booked INTO above
      FROM account_marks k WHERE k.partition = part AND k.account_id = account AND k.log_offset > before
     ORDER BY k.log_offset LIMIT 1;
    -- The present balance is a mark, too, but for a striped account: its stripes' balances have what these gave each other.
    IF NOT FOUND AND account < 'fffffffe-0000-0000-0000-000000000000' THEN
        SELECT p.next_offset AS log_offset, a.debits_posted, a.credits_posted, s.debits_booked, s.credits_booked INTO above
          FROM positions p CROSS JOIN accounts a CROSS JOIN LATERAL (
               SELECT coalesce(sum(b.debits), 0) AS debits_booked, coalesce(sum(b.credits), 0) AS credits_booked
                 FROM booked_sums b WHERE b.partition = part AND b.account_id = account) AS s
         WHERE p.partition = part AND a.partition = part AND a.id = account;
    END IF;
    IF above.log_offset - before < before - below.log_offset THEN
        SELECT coalesce(sum(m.debit), 0) AS debits, coalesce(sum(m.credit), 0) AS credits,
               coalesce(sum(m.debit) FILTER (WHERE m.booked_at IS NOT NULL), 0) AS debits_booked,
               coalesce(sum(m.credit) FILTER (WHERE m.booked_at IS NOT NULL), 0) AS credits_booked INTO moved
          FROM movements m
         WHERE m.account_id = account AND m.partition = part AND m.log_offset >= before AND m.log_offset < above.log_offset;
        debits := above.debits_posted - moved.debits;
        credits := above.credits_posted - moved.credits;
        debits_booked := above.debits_booked - moved.debits_booked;
        credits_booked := above.credits_booked - moved.credits_booked;
    ELSE
        SELECT coalesce(sum(m.debit), 0) AS debits, coalesce(sum(m.credit), 0) AS credits,
               coalesce(sum(m.debit) FILTER (WHERE m.booked_at IS NOT NULL), 0) AS debits_booked,
               coalesce(sum(m.credit) FILTER (WHERE m.booked_at IS NOT NULL), 0) AS credits_booked INTO moved
          FROM movements m
         WHERE m.account_id = account AND m.partition = part AND m.log_offset >= below.log_offset AND m.log_offset < before;
        debits := below.debits_posted + moved.debits;
        credits := below.credits_posted + moved.credits;
        debits_booked := below.debits_booked + moved.debits_booked;
        credits_booked := below.credits_booked + moved.credits_booked;
    END IF;
END $$;
COMMENT ON FUNCTION sums_before IS
    'What an account has moved in a partition by records below an offset, and what of it has a time of business: from the nearest mark on or back.';

CREATE OR REPLACE FUNCTION posted_before(account uuid, part integer, before bigint, OUT debits numeric, OUT credits numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    SELECT s.debits, s.credits INTO debits, credits FROM sums_before(account, part, before) AS s;
END $$;
COMMENT ON FUNCTION posted_before IS
    'What an account has posted in a partition by records below an offset: from the nearest mark on or back.';

CREATE FUNCTION booked_before(account uuid, part integer, at timestamptz, OUT debits numeric, OUT credits numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    span date := booked_span((at AT TIME ZONE 'UTC')::date);
BEGIN
    SELECT coalesce(sum(f.debit), 0), coalesce(sum(f.credit), 0) INTO debits, credits FROM (
        SELECT sum(b.debits) AS debit, sum(b.credits) AS credit FROM booked_sums b
         WHERE b.partition = part AND b.account_id = account AND b.first_day < span
        UNION ALL
        SELECT sum(m.debit), sum(m.credit) FROM movements m
         WHERE m.account_id = account AND m.partition = part
           AND m.booked_at >= span::timestamp AT TIME ZONE 'UTC' AND m.booked_at < at) AS f;
END $$;
COMMENT ON FUNCTION booked_before IS
    'What an account has moved in a partition by transfers whose time of business is before a time. Those without one do not count.';

CREATE OR REPLACE FUNCTION balance_at(account uuid, at timestamptz, by text DEFAULT 'log',
                           OUT debits_posted numeric, OUT credits_posted numeric, OUT balance numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    here integer := partition_of(account);
    d numeric;
    c numeric;
BEGIN
    IF by NOT IN ('log', 'booked') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('by is %L: it is log or booked', by);
    END IF;
    IF by = 'log' THEN
        SELECT coalesce(sum(s.debits), 0), coalesce(sum(s.credits), 0) INTO d, c
          FROM positions p CROSS JOIN LATERAL sums_before(account, p.partition, offset_at(p.partition, at)) AS s
         WHERE here IS NULL OR p.partition = here;
    ELSE
        SELECT coalesce(sum(s.debits - s.debits_booked + b.debits), 0), coalesce(sum(s.credits - s.credits_booked + b.credits), 0)
          INTO d, c
          FROM positions p CROSS JOIN LATERAL sums_before(account, p.partition, offset_at(p.partition, at)) AS s
          CROSS JOIN LATERAL booked_before(account, p.partition, at) AS b
         WHERE here IS NULL OR p.partition = here;
    END IF;
    debits_posted := d;
    credits_posted := c;
    balance := c - d;
END $$;

CREATE FUNCTION balance_of(account uuid)
RETURNS TABLE (ledger bigint, code integer, balance numeric, available numeric, debits_posted numeric, credits_posted numeric,
               debits_pending numeric, credits_pending numeric, version bigint, closed boolean)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    here integer := partition_of(account);
BEGIN
    IF here IS NULL THEN
        RETURN QUERY
        SELECT b.ledger, b.code, b.balance, b.available, b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending,
               b.version, b.closed FROM balances b WHERE b.account_id = account;
    ELSE
        RETURN QUERY
        SELECT a.ledger, a.code, a.credits_posted - a.debits_posted, a.credits_posted - a.debits_posted - a.debits_pending,
               a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending, a.version, a.closed
          FROM accounts a WHERE a.id = account AND a.partition = here;
    END IF;
END $$;
COMMENT ON FUNCTION balance_of IS
    'The row of view balances of one account, read from its own partition alone. No row if there is no such account.';

CREATE OR REPLACE FUNCTION balances_at(at timestamptz, by text DEFAULT 'log')
RETURNS TABLE (account_id uuid, ledger bigint, code integer, debits_posted numeric, credits_posted numeric, balance numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT SET work_mem = '64MB' SET jit = off AS $$
#variable_conflict use_column
DECLARE
    is_log boolean := by = 'log';
    span date := booked_span((at AT TIME ZONE 'UTC')::date);
BEGIN
    IF by NOT IN ('log', 'booked') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('by is %L: it is log or booked', by);
    END IF;
    RETURN QUERY
    WITH places AS MATERIALIZED (
        SELECT p.partition, p.next_offset, offset_at(p.partition, at) AS place FROM positions p
    ), bases AS MATERIALIZED (
        -- The nearest of: the start of the log, a mark of all accounts, the present balances.
        SELECT k.partition, k.place, n.base, n.source, n.base > k.place AS is_back, least(n.base, k.place) AS low,
               greatest(n.base, k.place) AS high
          FROM places k CROSS JOIN LATERAL (
               SELECT f.base, f.source FROM (
                   SELECT 0::bigint AS base, 'start' AS source
                   UNION ALL
                   SELECT k.next_offset, 'present'
                   UNION ALL
                   (SELECT c.log_offset, 'mark' FROM balance_marks c WHERE c.partition = k.partition AND c.log_offset <= k.place
                     ORDER BY c.log_offset DESC LIMIT 1)
                   UNION ALL
                   (SELECT c.log_offset, 'mark' FROM balance_marks c WHERE c.partition = k.partition AND c.log_offset > k.place
                     ORDER BY c.log_offset LIMIT 1)) AS f
                ORDER BY abs(f.base - k.place), f.source LIMIT 1) AS n
    ), base AS (
        SELECT m.* FROM bases b CROSS JOIN LATERAL (
               SELECT k.account_id, k.debits_posted - CASE WHEN is_log THEN 0 ELSE k.debits_booked END AS debits,
                      k.credits_posted - CASE WHEN is_log THEN 0 ELSE k.credits_booked END AS credits
                 FROM account_marks k
                WHERE k.partition = b.partition AND k.log_offset = b.base AND b.source = 'mark'
                  AND k.account_id < 'fffffffe-0000-0000-0000-000000000000' OFFSET 0) AS m
        UNION ALL
        SELECT a.id, a.debits_posted - coalesce(s.debits, 0), a.credits_posted - coalesce(s.credits, 0)
          FROM bases b JOIN accounts a ON a.partition = b.partition
          LEFT JOIN (SELECT k.account_id, sum(k.debits) AS debits, sum(k.credits) AS credits FROM booked_sums k
                      WHERE NOT is_log GROUP BY k.account_id) AS s ON s.account_id = a.id
         WHERE b.source = 'present' AND a.id < 'fffffffe-0000-0000-0000-000000000000'
    ), moved AS (
        SELECT m.account_id, CASE WHEN b.is_back THEN -sum(m.debit) ELSE sum(m.debit) END AS debits,
               CASE WHEN b.is_back THEN -sum(m.credit) ELSE sum(m.credit) END AS credits
          FROM bases b CROSS JOIN LATERAL (
               SELECT n.account_id, n.debit, n.credit FROM movements n
                WHERE n.partition = b.partition AND n.log_offset >= b.low AND n.log_offset < b.high
                  AND (is_log OR n.booked_at IS NULL)
                  AND n.account_id < 'fffffffe-0000-0000-0000-000000000000' OFFSET 0) AS m -- so that the bounds reach the indexes
         GROUP BY m.account_id, b.is_back
    ), booked AS (
        SELECT f.account_id, sum(f.debit) AS debits, sum(f.credit) AS credits FROM (
            SELECT k.account_id, k.debits AS debit, k.credits AS credit FROM booked_sums k WHERE NOT is_log AND k.first_day < span
            UNION ALL
            SELECT m.account_id, m.debit, m.credit FROM movements m
             WHERE NOT is_log AND m.booked_at >= span::timestamp AT TIME ZONE 'UTC' AND m.booked_at < at) AS f
         GROUP BY f.account_id
    ), found AS (
        SELECT a.id, a.ledger, a.code,
               coalesce(s.debits, 0) + coalesce(m.debits, 0) + coalesce(k.debits, 0) AS debits,
               coalesce(s.credits, 0) + coalesce(m.credits, 0) + coalesce(k.credits, 0) AS credits
          FROM accounts a LEFT JOIN base s ON s.account_id = a.id LEFT JOIN moved m ON m.account_id = a.id
          LEFT JOIN booked k ON k.account_id = a.id
         WHERE a.id < 'fffffffe-0000-0000-0000-000000000000' AND (a.time < at OR NOT is_log)
        UNION ALL
        SELECT a.id, a.ledger, a.code, s.debits + coalesce(k.debits, 0), s.credits + coalesce(k.credits, 0)
          FROM accounts a CROSS JOIN LATERAL (
               SELECT sum(o.debits - CASE WHEN is_log THEN 0 ELSE o.debits_booked END) AS debits,
                      sum(o.credits - CASE WHEN is_log THEN 0 ELSE o.credits_booked END) AS credits
                 FROM places b CROSS JOIN LATERAL sums_before(a.id, b.partition, b.place) AS o) AS s
          LEFT JOIN booked k ON k.account_id = a.id
         WHERE a.id >= 'fffffffe-0000-0000-0000-000000000000' AND a.id < 'ffffffff-0000-0000-0000-000000000000'
           AND a.home IS NULL AND (a.time < at OR NOT is_log))
    SELECT f.id, f.ledger, f.code, f.debits, f.credits, f.credits - f.debits FROM found f;
END $$;

-- As in version 9, but of one partition if the account is. To compile a plan takes longer than to run it, unless an answer has
-- millions of rows.
CREATE OR REPLACE FUNCTION statement(account uuid, since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity',
                          by text DEFAULT 'log')
RETURNS TABLE (log_time timestamptz, booked_at timestamptz, partition integer, log_offset bigint, transfer_id uuid, kind text,
               code integer, other_account_id uuid, debit numeric, credit numeric, debits_posted numeric,
               credits_posted numeric, balance numeric, ledger bigint)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT SET jit = off AS $$
#variable_conflict use_column
DECLARE
    here integer := partition_of(account);
    opening record;
BEGIN
    SELECT b.debits_posted AS debits, b.credits_posted AS credits INTO opening FROM balance_at(account, since, by) AS b;
    IF by = 'log' THEN
        RETURN QUERY
        WITH bounds AS MATERIALIZED (
            SELECT p.partition, offset_at(p.partition, since) AS low, offset_at(p.partition, until) AS high
              FROM positions p WHERE here IS NULL OR p.partition = here)
        SELECT m.time, m.booked_at, m.partition, m.log_offset, m.transfer_id, m.kind::text, m.code, m.other_account_id,
               m.debit, m.credit, opening.debits + sum(m.debit) OVER up, opening.credits + sum(m.credit) OVER up,
               opening.credits - opening.debits + sum(m.credit - m.debit) OVER up, m.ledger
          FROM bounds b CROSS JOIN LATERAL (
               SELECT n.* FROM movements n WHERE n.account_id = account AND n.partition = b.partition
                  AND n.log_offset >= b.low AND n.log_offset < b.high OFFSET 0) AS m -- so that the bounds reach the indexes
        WINDOW up AS (ORDER BY m.time, m.partition, m.log_offset ROWS UNBOUNDED PRECEDING)
         ORDER BY m.time, m.partition, m.log_offset;
    ELSE
        RETURN QUERY
        WITH bounds AS MATERIALIZED (
            SELECT p.partition, offset_at(p.partition, since) AS low, offset_at(p.partition, until) AS high
              FROM positions p WHERE here IS NULL OR p.partition = here),
        moved AS (
            SELECT m.* FROM movements m
             WHERE m.account_id = account AND m.booked_at >= since AND m.booked_at < until AND (here IS NULL OR m.partition = here)
            UNION ALL
            SELECT m.* FROM bounds b CROSS JOIN LATERAL (
                   SELECT n.* FROM movements n WHERE n.account_id = account AND n.partition = b.partition
                      AND n.log_offset >= b.low AND n.log_offset < b.high AND n.booked_at IS NULL OFFSET 0) AS m)
        SELECT m.time, m.booked_at, m.partition, m.log_offset, m.transfer_id, m.kind::text, m.code, m.other_account_id,
               m.debit, m.credit, opening.debits + sum(m.debit) OVER up, opening.credits + sum(m.credit) OVER up,
               opening.credits - opening.debits + sum(m.credit - m.debit) OVER up, m.ledger
          FROM moved m
        WINDOW up AS (ORDER BY coalesce(m.booked_at, m.time), m.partition, m.log_offset ROWS UNBOUNDED PRECEDING)
         ORDER BY coalesce(m.booked_at, m.time), m.partition, m.log_offset;
    END IF;
END $$;
ALTER FUNCTION newest_movements(uuid, integer) SET jit = off;
