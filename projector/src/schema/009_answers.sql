-- Version 9: the time of business, and functions that answer common questions without reading all of the tables.

ALTER TABLE transfers ADD COLUMN booked_at timestamptz;
ALTER TABLE arrivals ADD COLUMN booked_at timestamptz;
COMMENT ON COLUMN transfers.booked_at IS
    'Time of business, which its sender has given: user_data_64 in microseconds since 1970, if flag 1024 is set; else null. -infinity before 4714 BC.';
COMMENT ON COLUMN arrivals.booked_at IS 'As in table transfers.';
COMMENT ON COLUMN transfers.flags IS
    'Flags in the log: 1 linked, 2 pending, 4 post, 8 void, 16 balancing debit, 32 balancing credit, 1024 booked: user_data_64 is the time of business, 2048 gathering: a stripe of an account has given credits to that of other_partition. That is no transfer of anybody''s.';

CREATE TABLE daily_volumes (
    partition  integer NOT NULL,
    ledger     bigint NOT NULL,
    day        date NOT NULL,
    booked_day date NOT NULL,
    movements  bigint NOT NULL,
    amount     numeric NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE daily_volumes IS
    'What was moved, summed up by day: each row of transfers of kind transfer or post once, without gatherings. Views volume_by_day and volume_by_booked_day have the sums over partitions.';
COMMENT ON COLUMN daily_volumes.partition IS 'Partition of the log; of a transfer between partitions, its home.';
COMMENT ON COLUMN daily_volumes.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN daily_volumes.day IS 'Day of the log time, UTC.';
COMMENT ON COLUMN daily_volumes.booked_day IS 'Day of the time of business, UTC; that of the log time where there is none.';
COMMENT ON COLUMN daily_volumes.movements IS 'Number of transfers and postings.';
COMMENT ON COLUMN daily_volumes.amount IS 'Sum of their amounts, in minor units.';

CREATE VIEW volume_by_day AS
SELECT ledger, day, sum(movements)::bigint AS movements, sum(amount) AS amount FROM daily_volumes GROUP BY ledger, day;
COMMENT ON VIEW volume_by_day IS 'What was moved in each ledger, by day of the log time, UTC. Days without any are left out.';
COMMENT ON COLUMN volume_by_day.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN volume_by_day.day IS 'Day of the log time, UTC.';
COMMENT ON COLUMN volume_by_day.movements IS 'Number of transfers and postings.';
COMMENT ON COLUMN volume_by_day.amount IS 'Sum of their amounts, in minor units.';

CREATE VIEW volume_by_booked_day AS
SELECT ledger, booked_day, sum(movements)::bigint AS movements, sum(amount) AS amount
  FROM daily_volumes GROUP BY ledger, booked_day;
COMMENT ON VIEW volume_by_booked_day IS 'What was moved in each ledger, by day of business, UTC. Days without any are left out.';
COMMENT ON COLUMN volume_by_booked_day.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN volume_by_booked_day.booked_day IS 'Day of the time of business, UTC; that of the log time where there is none.';
COMMENT ON COLUMN volume_by_booked_day.movements IS 'Number of transfers and postings.';
COMMENT ON COLUMN volume_by_booked_day.amount IS 'Sum of their amounts, in minor units.';

CREATE VIEW newest_time AS SELECT max(log_time) AS log_time FROM positions;
COMMENT ON VIEW newest_time IS 'Log time of the newest record of all partitions: one row, at once, where max(time) reads a whole table.';
COMMENT ON COLUMN newest_time.log_time IS 'Log time, truncated to microseconds; null before the first record.';

CREATE VIEW movements AS
SELECT debit_account_id AS account_id, partition, log_offset, time, booked_at, id AS transfer_id, kind, code,
       credit_account_id AS other_account_id, amount AS debit, 0::numeric AS credit, ledger
  FROM transfers
 WHERE kind IN ('transfer', 'post') AND (sides IS NULL OR sides & 1 = 1) AND flags & 2048 <> 2048
UNION ALL
SELECT credit_account_id, partition, log_offset, time, booked_at, id, kind, code, debit_account_id, 0::numeric, amount, ledger
  FROM transfers
 WHERE kind IN ('transfer', 'post') AND (other_partition IS NULL OR sides & 2 = 2) AND flags & 2048 <> 2048
UNION ALL
SELECT debit_account_id, partition, log_offset, time, booked_at, id, kind::transfer_kind, code, credit_account_id, amount,
       0::numeric, ledger
  FROM arrivals WHERE verdict = 0 AND kind = 'transfer' AND sides & 1 = 1
UNION ALL
SELECT credit_account_id, partition, log_offset, time, booked_at, id, kind::transfer_kind, code, debit_account_id, 0::numeric,
       amount, ledger
  FROM arrivals
 WHERE verdict = 0 AND kind IN ('transfer', 'post') AND (sides IS NULL OR sides & 2 = 2)
   AND debit_account_id <> credit_account_id;
COMMENT ON VIEW movements IS
    'Moved money by account: two rows for each transfer or posting, wherever its accounts live. account_statements without the balance.';
COMMENT ON COLUMN movements.account_id IS 'Account whose debits or credits changed.';
COMMENT ON COLUMN movements.partition IS 'Partition of the log, and of the account or of its stripe.';
COMMENT ON COLUMN movements.log_offset IS 'Offset of the record there: the order of the account''s rows.';
COMMENT ON COLUMN movements.time IS 'Log time.';
COMMENT ON COLUMN movements.booked_at IS 'Time of business; null if its sender has given none.';
COMMENT ON COLUMN movements.transfer_id IS 'Id of the transfer or posting.';
COMMENT ON COLUMN movements.kind IS 'Kind: transfer or post.';
COMMENT ON COLUMN movements.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN movements.other_account_id IS 'Account on the other side.';
COMMENT ON COLUMN movements.debit IS 'Amount moved out, or 0.';
COMMENT ON COLUMN movements.credit IS 'Amount moved in, or 0.';
COMMENT ON COLUMN movements.ledger IS 'Ledger: asset and scale.';

-- As in version 8, of the view movements, with the time of business.
CREATE OR REPLACE VIEW account_statements AS
SELECT account_id, log_offset, time, transfer_id, kind, code, other_account_id, debit, credit,
       sum(credit - debit) OVER (PARTITION BY account_id ORDER BY log_offset
                                 ROWS UNBOUNDED PRECEDING) AS balance,
       ledger, partition, booked_at
  FROM movements WHERE account_id < 'fffffffe-0000-0000-0000-000000000000'
UNION ALL
SELECT account_id, log_offset, time, transfer_id, kind, code, other_account_id, debit, credit,
       sum(credit - debit) OVER (PARTITION BY account_id ORDER BY time, partition, log_offset
                                 ROWS UNBOUNDED PRECEDING),
       ledger, partition, booked_at
  FROM movements WHERE account_id >= 'fffffffe-0000-0000-0000-000000000000';
COMMENT ON COLUMN account_statements.booked_at IS 'Time of business; null if its sender has given none.';

CREATE OR REPLACE VIEW transfer_states AS
SELECT t.id, t.debit_account_id, t.credit_account_id, t.log_offset, t.time, t.ledger, t.partition, t.code,
       t.kind, t.flags, t.amount, t.amount_asked, t.pending_id, t.timeout_seconds, t.user_data_128,
       t.user_data_64, t.user_data_32, r.state, r.amount_posted, r.resolved_at, r.resolved_offset,
       t.other_partition, t.prepared_offset, t.sides, t.transit_partition, t.booked_at
  FROM transfers t LEFT JOIN reservations r
    ON t.kind = 'pending' AND r.partition = t.partition AND r.id = t.id
 WHERE t.flags & 2048 <> 2048;

-- PROTOCOL.md, section 5. A product of 32 bits and 32 would not fit, so the upper 16 are multiplied apart.
CREATE FUNCTION partition_of(id uuid, partitions integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    book bigint := ('x' || left(id::text, 8))::bit(32)::bigint;
    hash bigint := book;
BEGIN
    hash := hash # (hash >> 16);
    hash := ((hash & 65535) * 2246822507 + (((hash >> 16) * 2246822507 & 65535) << 16)) & 4294967295;
    hash := hash # (hash >> 13);
    hash := ((hash & 65535) * 3266489909 + (((hash >> 16) * 3266489909 & 65535) << 16)) & 4294967295;
    hash := hash # (hash >> 16);
    RETURN CASE WHEN book < 4294967294 OR partitions = 1 THEN hash % partitions END;
END $$;
COMMENT ON FUNCTION partition_of(uuid, integer) IS
    'Partition of an account, which is that of its book, in a log with so many partitions. Null for striped and in-transit accounts, which every partition has, unless there is only one.';

CREATE FUNCTION partition_of(id uuid)
RETURNS integer LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN partition_of(id, (SELECT partitions FROM log));
END $$;
COMMENT ON FUNCTION partition_of(uuid) IS
    'Partition of an account in this log, which is that of its book. Null for striped and in-transit accounts, which every partition has, unless there is only one.';

CREATE FUNCTION offset_at(part integer, at timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    low  bigint := 0;
    high bigint := (SELECT next_offset FROM positions WHERE partition = part);
    found_at   bigint;
    found_time timestamptz;
BEGIN
    -- Log time ascends with the offset, so a few looks into the primary keys find it.
    WHILE low < high LOOP
        SELECT f.log_offset, f.time INTO found_at, found_time FROM (
            (SELECT t.log_offset, t.time FROM transfers t
              WHERE t.partition = part AND t.log_offset >= (low + high) / 2 AND t.log_offset < high
              ORDER BY t.log_offset LIMIT 1)
            UNION ALL
            (SELECT a.log_offset, a.time FROM arrivals a
              WHERE a.partition = part AND a.log_offset >= (low + high) / 2 AND a.log_offset < high
              ORDER BY a.log_offset LIMIT 1)) AS f ORDER BY f.log_offset LIMIT 1;
        IF NOT FOUND OR found_time >= at THEN
            high := (low + high) / 2;
        ELSE
            low := found_at + 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
COMMENT ON FUNCTION offset_at IS
    'An offset of the partition that parts its movements by log time: those below it are before that time, the others not.';

CREATE FUNCTION posted_before(account uuid, part integer, before bigint, OUT debits numeric, OUT credits numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    -- Not backwards for a striped account: its stripes' balances have what these gave each other.
    IF account < 'fffffffe-0000-0000-0000-000000000000'
       AND before > (SELECT next_offset / 2 FROM positions WHERE partition = part) THEN
        SELECT coalesce(sum(m.debit), 0), coalesce(sum(m.credit), 0) INTO debits, credits FROM movements m
         WHERE m.account_id = account AND m.partition = part AND m.log_offset >= before;
        SELECT a.debits_posted - debits, a.credits_posted - credits INTO debits, credits
          FROM accounts a WHERE a.id = account AND a.partition = part;
        debits := coalesce(debits, 0);
        credits := coalesce(credits, 0);
    ELSE
        SELECT coalesce(sum(m.debit), 0), coalesce(sum(m.credit), 0) INTO debits, credits FROM movements m
         WHERE m.account_id = account AND m.partition = part AND m.log_offset < before;
    END IF;
END $$;
COMMENT ON FUNCTION posted_before IS
    'What an account has posted in a partition by records below an offset: summed up from the start, or from its present balance back, whichever is shorter.';

CREATE FUNCTION balance_at(account uuid, at timestamptz, by text DEFAULT 'log',
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
          FROM positions p CROSS JOIN LATERAL posted_before(account, p.partition, offset_at(p.partition, at)) AS s
         WHERE here IS NULL OR p.partition = here;
    ELSE
        SELECT coalesce(sum(b.debit), 0), coalesce(sum(b.credit), 0) INTO d, c FROM (
            SELECT m.debit, m.credit FROM movements m WHERE m.account_id = account AND m.booked_at < at
            UNION ALL
            SELECT m.debit, m.credit FROM movements m
             WHERE m.account_id = account AND m.booked_at IS NULL AND m.time < at) AS b;
    END IF;
    debits_posted := d;
    credits_posted := c;
    balance := c - d;
END $$;
COMMENT ON FUNCTION balance_at(uuid, timestamptz, text) IS
    'Balance of an account before a time, by log time, or with by => ''booked'' by time of business, which is the log time where there is none. Pending amounts are left out.';

CREATE FUNCTION balance_after(account uuid, log_offset bigint,
                           OUT debits_posted numeric, OUT credits_posted numeric, OUT balance numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    here integer := partition_of(account);
BEGIN
    IF here IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an account of every partition has no one order of offsets',
            HINT = 'Ask by time.';
    END IF;
    SELECT s.debits, s.credits, s.credits - s.debits INTO debits_posted, credits_posted, balance
      FROM posted_before(account, here, log_offset + 1) AS s;
END $$;
COMMENT ON FUNCTION balance_after IS
    'Balance of an account after the record at an offset of its partition. Pending amounts are left out. Not for striped accounts.';

CREATE FUNCTION statement(account uuid, since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity',
                          by text DEFAULT 'log')
RETURNS TABLE (log_time timestamptz, booked_at timestamptz, partition integer, log_offset bigint, transfer_id uuid, kind text,
               code integer, other_account_id uuid, debit numeric, credit numeric, debits_posted numeric,
               credits_posted numeric, balance numeric, ledger bigint)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
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
            SELECT m.* FROM movements m WHERE m.account_id = account AND m.booked_at >= since AND m.booked_at < until
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
COMMENT ON FUNCTION statement IS
    'What an account has moved from one time on and before another, oldest first, with its posted debits, posted credits and balance after each row. By log time, or with by => ''booked'' by time of business, which is the log time where there is none.';

CREATE FUNCTION newest_movements(account uuid, rows integer DEFAULT 20)
RETURNS TABLE (log_time timestamptz, booked_at timestamptz, partition integer, log_offset bigint, transfer_id uuid, kind text,
               code integer, other_account_id uuid, debit numeric, credit numeric, balance numeric, ledger bigint)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    here integer := partition_of(account);
    present numeric;
BEGIN
    SELECT coalesce(sum(s.credits - s.debits), 0) INTO present
      FROM positions p CROSS JOIN LATERAL posted_before(account, p.partition, p.next_offset) AS s
     WHERE here IS NULL OR p.partition = here;
    RETURN QUERY
    WITH newest AS (
        SELECT m.* FROM positions p CROSS JOIN LATERAL (
               -- Arm by arm what view movements has: each reads its index back from the end, and no more of it.
               (SELECT t.partition, t.log_offset, t.time, t.booked_at, t.id AS transfer_id, t.kind::text AS kind, t.code,
                       t.credit_account_id AS other_account_id, t.amount AS debit, 0::numeric AS credit, t.ledger
                  FROM transfers t WHERE t.partition = p.partition AND t.debit_account_id = account
                   AND t.kind IN ('transfer', 'post') AND (t.sides IS NULL OR t.sides & 1 = 1) AND t.flags & 2048 <> 2048
                 ORDER BY t.log_offset DESC LIMIT rows)
               UNION ALL
               (SELECT t.partition, t.log_offset, t.time, t.booked_at, t.id AS transfer_id, t.kind::text AS kind, t.code,
                       t.debit_account_id AS other_account_id, 0::numeric AS debit, t.amount AS credit, t.ledger
                  FROM transfers t WHERE t.partition = p.partition AND t.credit_account_id = account
                   AND t.kind IN ('transfer', 'post') AND (t.other_partition IS NULL OR t.sides & 2 = 2) AND t.flags & 2048 <> 2048
                 ORDER BY t.log_offset DESC LIMIT rows)
               UNION ALL
               (SELECT t.partition, t.log_offset, t.time, t.booked_at, t.id AS transfer_id, t.kind::text AS kind, t.code,
                       t.credit_account_id AS other_account_id, t.amount AS debit, 0::numeric AS credit, t.ledger
                  FROM arrivals t WHERE t.partition = p.partition AND t.debit_account_id = account
                   AND t.verdict = 0 AND t.kind = 'transfer' AND t.sides & 1 = 1
                 ORDER BY t.log_offset DESC LIMIT rows)
               UNION ALL
               (SELECT t.partition, t.log_offset, t.time, t.booked_at, t.id AS transfer_id, t.kind::text AS kind, t.code,
                       t.debit_account_id AS other_account_id, 0::numeric AS debit, t.amount AS credit, t.ledger
                  FROM arrivals t WHERE t.partition = p.partition AND t.credit_account_id = account
                   AND t.verdict = 0 AND t.kind IN ('transfer', 'post') AND (t.sides IS NULL OR t.sides & 2 = 2)
                   AND t.debit_account_id <> t.credit_account_id
                 ORDER BY t.log_offset DESC LIMIT rows)) AS m
         WHERE here IS NULL OR p.partition = here
         ORDER BY m.time DESC, m.partition DESC, m.log_offset DESC LIMIT rows)
    SELECT m.time, m.booked_at, m.partition, m.log_offset, m.transfer_id, m.kind, m.code, m.other_account_id, m.debit,
           m.credit, present - coalesce(sum(m.credit - m.debit) OVER down, 0), m.ledger
      FROM newest m
    WINDOW down AS (ORDER BY m.time DESC, m.partition DESC, m.log_offset DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
     ORDER BY m.time DESC, m.partition DESC, m.log_offset DESC;
END $$;
COMMENT ON FUNCTION newest_movements IS
    'The newest rows of an account''s statement by log time, newest first, with the balance after each: counted back from the present one.';

CREATE FUNCTION balances_at(at timestamptz, by text DEFAULT 'log')
RETURNS TABLE (account_id uuid, ledger bigint, code integer, debits_posted numeric, credits_posted numeric, balance numeric)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    IF by NOT IN ('log', 'booked') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('by is %L: it is log or booked', by);
    ELSIF by = 'log' THEN
        RETURN QUERY
        WITH marks AS MATERIALIZED (
            SELECT p.partition, p.next_offset, offset_at(p.partition, at) AS mark FROM positions p
        ), bounds AS MATERIALIZED (
            -- From the present balances back, if that is shorter.
            SELECT k.partition, k.mark, k.mark > k.next_offset / 2 AS is_back,
                   CASE WHEN k.mark > k.next_offset / 2 THEN k.mark ELSE 0 END AS low,
                   CASE WHEN k.mark > k.next_offset / 2 THEN k.next_offset ELSE k.mark END AS high FROM marks k
        ), moved AS (
            SELECT m.account_id, sum(m.debit) AS debits, sum(m.credit) AS credits
              FROM bounds b CROSS JOIN LATERAL (
                   SELECT n.account_id, n.debit, n.credit FROM movements n
                    WHERE n.partition = b.partition AND n.log_offset >= b.low AND n.log_offset < b.high
                      AND n.account_id < 'fffffffe-0000-0000-0000-000000000000' OFFSET 0) AS m
             GROUP BY m.account_id
        ), found AS (
            SELECT a.id, a.ledger, a.code,
                   CASE WHEN b.is_back THEN a.debits_posted - coalesce(m.debits, 0) ELSE coalesce(m.debits, 0) END AS debits,
                   CASE WHEN b.is_back THEN a.credits_posted - coalesce(m.credits, 0) ELSE coalesce(m.credits, 0) END AS credits
              FROM accounts a JOIN bounds b USING (partition) LEFT JOIN moved m ON m.account_id = a.id
             WHERE a.id < 'fffffffe-0000-0000-0000-000000000000' AND a.time < at
            UNION ALL
            SELECT a.id, a.ledger, a.code, s.debits, s.credits
              FROM accounts a CROSS JOIN LATERAL (
                   SELECT sum(o.debits) AS debits, sum(o.credits) AS credits
                     FROM bounds b CROSS JOIN LATERAL posted_before(a.id, b.partition, b.mark) AS o) AS s
             WHERE a.id >= 'fffffffe-0000-0000-0000-000000000000' AND a.id < 'ffffffff-0000-0000-0000-000000000000'
               AND a.home IS NULL AND a.time < at)
        SELECT f.id, f.ledger, f.code, f.debits, f.credits, f.credits - f.debits FROM found f;
    ELSE
        RETURN QUERY
        WITH moved AS (
            SELECT m.account_id, sum(m.debit) AS debits, sum(m.credit) AS credits FROM movements m
             WHERE coalesce(m.booked_at, m.time) < at GROUP BY m.account_id)
        SELECT a.id, a.ledger, a.code, coalesce(m.debits, 0), coalesce(m.credits, 0),
               coalesce(m.credits, 0) - coalesce(m.debits, 0)
          FROM accounts a LEFT JOIN moved m ON m.account_id = a.id
         WHERE a.id < 'ffffffff-0000-0000-0000-000000000000' AND a.home IS NULL;
    END IF;
END $$;
COMMENT ON FUNCTION balances_at IS
    'Balances of all accounts before a time: by log time of those that there were, or with by => ''booked'' by time of business of all. Pending amounts are left out; a striped account is one row.';
