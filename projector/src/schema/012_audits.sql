-- Version 12: the outcome of audits; and statements and balances of all accounts at a time in less time. See ANSWERS.md.

CREATE TABLE audits (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz,
    outcome      text,
    said         text,
    differences  bigint,
    next_offsets bigint[],
    program      text NOT NULL,
    run_by       text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE audits IS
    'Audits that were made, and those of rebuilds whose tables were put in place: each is a row from its beginning on. The newest 1,000 are kept.';
COMMENT ON COLUMN audits.id IS 'Number of the audit.';
COMMENT ON COLUMN audits.began_at IS 'When it began.';
COMMENT ON COLUMN audits.ended_at IS 'When it ended; null while it runs, and for ever if it was killed.';
COMMENT ON COLUMN audits.outcome IS
    'equal: the tables were what the log said; different: they were not; failed: it did not come to its end. Null before its end.';
COMMENT ON COLUMN audits.said IS 'The outcome in words: the first differences, or why it failed.';
COMMENT ON COLUMN audits.differences IS
    'How many rows differed; of those that did not fit another partition''s, the ones that were listed. Null if it did not come to its end.';
COMMENT ON COLUMN audits.next_offsets IS 'Records below were compared: an offset for each partition, beginning with 0.';
COMMENT ON COLUMN audits.program IS 'Release of the program that made it.';
COMMENT ON COLUMN audits.run_by IS 'Role that it was made as.';

-- Answers as before, in less time. Rows of a span are read by bitmaps of an index and not one by one through it: an account with a large
-- part in everything has thousands of them, and its index order is not that of the table. By estimate, without that, the indexes over
-- all accounts of a span look cheaper for it, and cost several times as much. Looks for one row keep to their indexes.
-- Balances of all accounts come from one process: gathering what several have summed up takes longer than it saves.
ALTER FUNCTION offset_at(integer, timestamptz) SET enable_indexscan = on;
ALTER FUNCTION sums_before(uuid, integer, bigint) SET enable_indexscan = on;

CREATE FUNCTION booked_bounds(at timestamptz, OUT first_day date, OUT is_late boolean, OUT since timestamptz, OUT until timestamptz)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    first timestamptz;
BEGIN
    first_day := booked_span((at AT TIME ZONE 'UTC')::date);
    first := first_day::timestamp AT TIME ZONE 'UTC';
    is_late := isfinite(first) AND at < '290000-01-01Z' AND at - first > interval '16 days';
    since := CASE WHEN is_late THEN at ELSE first END;
    until := CASE WHEN is_late THEN first + interval '32 days' ELSE at END;
END $$;
COMMENT ON FUNCTION booked_bounds IS
    'The span of 32 days that a time is in, as table booked_sums counts them, whether the time is in its second half, and what parts the time from the nearer end of the span: what was moved there is added to the spans before, or taken from them and this one.';

CREATE OR REPLACE FUNCTION booked_before(account uuid, part integer, at timestamptz, OUT debits numeric, OUT credits numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT SET enable_indexscan = off AS $$
#variable_conflict use_column
DECLARE
    span record;
    moved record;
BEGIN
    SELECT * INTO span FROM booked_bounds(at);
    SELECT coalesce(sum(m.debit), 0) AS debits, coalesce(sum(m.credit), 0) AS credits INTO moved FROM movements m
     WHERE m.account_id = account AND m.partition = part AND m.booked_at >= span.since AND m.booked_at < span.until;
    SELECT coalesce(sum(b.debits), 0), coalesce(sum(b.credits), 0) INTO debits, credits FROM booked_sums b
     WHERE b.partition = part AND b.account_id = account AND (b.first_day < span.first_day OR span.is_late AND b.first_day = span.first_day);
    debits := CASE WHEN span.is_late THEN debits - moved.debits ELSE debits + moved.debits END;
    credits := CASE WHEN span.is_late THEN credits - moved.credits ELSE credits + moved.credits END;
END $$;

CREATE OR REPLACE FUNCTION balances_at(at timestamptz, by text DEFAULT 'log')
RETURNS TABLE (account_id uuid, ledger bigint, code integer, debits_posted numeric, credits_posted numeric, balance numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT
SET work_mem = '64MB' SET jit = off SET plan_cache_mode = force_custom_plan SET enable_indexscan = off
SET max_parallel_workers_per_gather = 0 AS $$
#variable_conflict use_column
DECLARE
    is_log boolean := by = 'log';
    span record;
    base record;
BEGIN
    IF by NOT IN ('log', 'booked') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('by is %L: it is log or booked', by);
    END IF;
    SELECT * INTO span FROM booked_bounds(at);
    FOR base IN
        -- The nearest of: the start of the log, a mark of all accounts, the present balances.
        SELECT k.partition, n.base, n.source, n.base > k.place AS is_back, least(n.base, k.place) AS low, greatest(n.base, k.place) AS high
          FROM (SELECT p.partition, p.next_offset, offset_at(p.partition, at) AS place FROM positions p OFFSET 0) AS k
          CROSS JOIN LATERAL (
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
         ORDER BY k.partition
    LOOP
        -- All that counts is summed up in one pass: the base, what moved between it and the time, and by time of business the sums
        -- of spans, and what moved between a bound of the time's span and the time. A partition at a time: the plan knows the bounds.
        RETURN QUERY
        SELECT a.id, a.ledger, a.code, coalesce(s.debits, 0), coalesce(s.credits, 0), coalesce(s.credits - s.debits, 0)
          FROM accounts a LEFT JOIN (
               SELECT c.account_id, sum(c.debits) AS debits, sum(c.credits) AS credits FROM (
                   SELECT k.account_id, CASE WHEN is_log THEN k.debits_posted ELSE k.debits_posted - k.debits_booked END AS debits,
                          CASE WHEN is_log THEN k.credits_posted ELSE k.credits_posted - k.credits_booked END AS credits
                     FROM account_marks k WHERE base.source = 'mark' AND k.partition = base.partition AND k.log_offset = base.base
                   UNION ALL
                   SELECT p.id, p.debits_posted, p.credits_posted FROM accounts p
                    WHERE base.source = 'present' AND p.partition = base.partition
                   UNION ALL
                   SELECT k.account_id, -k.debits, -k.credits FROM booked_sums k
                    WHERE base.source = 'present' AND NOT is_log AND k.partition = base.partition
                   UNION ALL
                   SELECT m.account_id, CASE WHEN base.is_back THEN -m.debit ELSE m.debit END,
                          CASE WHEN base.is_back THEN -m.credit ELSE m.credit END
                     FROM movements m
                    WHERE m.partition = base.partition AND m.log_offset >= base.low AND m.log_offset < base.high
                      AND (is_log OR m.booked_at IS NULL)
                   UNION ALL
                   SELECT k.account_id, k.debits, k.credits FROM booked_sums k
                    WHERE NOT is_log AND k.partition = base.partition AND (k.first_day < span.first_day OR span.is_late AND k.first_day = span.first_day)
                   UNION ALL
                   SELECT m.account_id, CASE WHEN span.is_late THEN -m.debit ELSE m.debit END,
                          CASE WHEN span.is_late THEN -m.credit ELSE m.credit END
                     FROM movements m
                    WHERE NOT is_log AND m.partition = base.partition AND m.booked_at >= span.since AND m.booked_at < span.until) AS c
                WHERE c.account_id < 'fffffffe-0000-0000-0000-000000000000' GROUP BY c.account_id) AS s ON s.account_id = a.id
         WHERE a.partition = base.partition AND a.id < 'fffffffe-0000-0000-0000-000000000000' AND (a.time < at OR NOT is_log);
    END LOOP;
    RETURN QUERY
    SELECT a.id, a.ledger, a.code, s.debits, s.credits, s.credits - s.debits
      FROM accounts a CROSS JOIN LATERAL (
           SELECT sum(CASE WHEN is_log THEN o.debits ELSE o.debits - o.debits_booked + k.debits END) AS debits,
                  sum(CASE WHEN is_log THEN o.credits ELSE o.credits - o.credits_booked + k.credits END) AS credits
             FROM positions p CROSS JOIN LATERAL sums_before(a.id, p.partition, offset_at(p.partition, at)) AS o
             LEFT JOIN LATERAL booked_before(a.id, p.partition, at) AS k ON NOT is_log) AS s
     WHERE a.id >= 'fffffffe-0000-0000-0000-000000000000' AND a.id < 'ffffffff-0000-0000-0000-000000000000'
       AND a.home IS NULL AND (a.time < at OR NOT is_log);
END $$;

CREATE OR REPLACE FUNCTION statement(account uuid, since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity',
                          by text DEFAULT 'log')
RETURNS TABLE (log_time timestamptz, booked_at timestamptz, partition integer, log_offset bigint, transfer_id uuid, kind text,
               code integer, other_account_id uuid, debit numeric, credit numeric, debits_posted numeric,
               credits_posted numeric, balance numeric, ledger bigint)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT SET jit = off SET work_mem = '32MB' SET enable_indexscan = off AS $$
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
        SELECT s.time, s.booked_at, s.partition, s.log_offset, s.transfer_id, s.kind::text, s.code, s.other_account_id,
               s.debit, s.credit, s.debits, s.credits, s.credits - s.debits, s.ledger
          FROM (SELECT m.*, opening.debits + sum(m.debit) OVER up AS debits, opening.credits + sum(m.credit) OVER up AS credits
                  FROM bounds b CROSS JOIN LATERAL (
                       SELECT n.* FROM movements n WHERE n.account_id = account AND n.partition = b.partition
                          AND n.log_offset >= b.low AND n.log_offset < b.high OFFSET 0) AS m -- so that the bounds reach the indexes
                WINDOW up AS (ORDER BY m.time, m.partition, m.log_offset ROWS UNBOUNDED PRECEDING)) AS s
         ORDER BY s.time, s.partition, s.log_offset;
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
        SELECT s.time, s.booked_at, s.partition, s.log_offset, s.transfer_id, s.kind::text, s.code, s.other_account_id,
               s.debit, s.credit, s.debits, s.credits, s.credits - s.debits, s.ledger
          FROM (SELECT m.*, opening.debits + sum(m.debit) OVER up AS debits, opening.credits + sum(m.credit) OVER up AS credits
                  FROM (SELECT f.*, coalesce(f.booked_at, f.time) AS at FROM moved f) AS m
                WINDOW up AS (ORDER BY m.at, m.partition, m.log_offset ROWS UNBOUNDED PRECEDING)) AS s
         ORDER BY s.at, s.partition, s.log_offset;
    END IF;
END $$;
