-- Version 6: linked chains over two partitions. Home prepares all events of one; the other partition decides them. So a
-- transfer may stand at a home where neither of its accounts lives, and may arrive where both or none do.

ALTER TABLE transfers ADD COLUMN sides smallint;
ALTER TABLE refused_events ADD COLUMN sides smallint;
ALTER TABLE under_way ADD COLUMN sides smallint;
ALTER TABLE arrivals ADD COLUMN sides smallint;
COMMENT ON COLUMN transfers.sides IS
    'Of a chain over two partitions: 1 if the debit account lives in this one, plus 2 if the credit account does. Else null.';
COMMENT ON COLUMN refused_events.sides IS 'As in table transfers, if another partition has refused it.';
COMMENT ON COLUMN under_way.sides IS 'As in table transfers.';
COMMENT ON COLUMN arrivals.sides IS 'As in table transfers.';
COMMENT ON COLUMN transfers.other_partition IS
    'Partition that had the last word: that of the credit account or, in a chain, the other one of the chain; null if no other had.';
COMMENT ON COLUMN transfers.prepared_offset IS
    'Offset of the record that prepared it, which its acknowledgement names, if another partition had the last word; of a voiding or expiry of a reservation between partitions, its own; else null.';
COMMENT ON TABLE under_way IS
    'Transfers, reservations and ends of reservations on which another partition has the last word, and that have none yet. With its word a row goes, and becomes one of transfers or of refused_events.';
COMMENT ON COLUMN under_way.debit_account_id IS 'Account that it comes from.';
COMMENT ON COLUMN under_way.partition IS 'Partition of the log: its home.';
COMMENT ON COLUMN under_way.other_partition IS 'Partition that has the last word.';
COMMENT ON COLUMN under_way.credit_account_id IS 'Account that it is meant for.';
COMMENT ON COLUMN under_way.amount IS 'Amount in minor units: reserved; by the end of a reservation to be moved or released.';
COMMENT ON TABLE arrivals IS
    'Every transfer that another partition has prepared, reservation or end of one, as it has arrived: one row for each, never updated. What was decided is its word. In a chain, a row may change nothing here.';
COMMENT ON COLUMN arrivals.partition IS 'Partition of the log, which has the last word.';
COMMENT ON COLUMN arrivals.home IS 'Partition that has prepared it.';
COMMENT ON COLUMN arrivals.debit_account_id IS 'Account that it comes from.';
COMMENT ON COLUMN refused_events.body IS
    'The event as it was sent: 128 bytes, see FORMAT.md, section 3. Of a guard in a chain over two partitions, as it has arrived.';
COMMENT ON TABLE account_events IS
    'Guards that held, closings and reopenings of accounts. A guard in a chain over two partitions stands where its account lives.';
COMMENT ON COLUMN in_transit.debits_pending IS 'Is reserved here for the other partition to send: its reservations, and chains under way.';

CREATE OR REPLACE VIEW account_statements AS
SELECT account_id, log_offset, time, transfer_id, kind, code, other_account_id, debit, credit,
       sum(credit - debit) OVER (PARTITION BY account_id ORDER BY log_offset
                                 ROWS UNBOUNDED PRECEDING) AS balance,
       ledger, partition
  FROM (SELECT debit_account_id AS account_id, log_offset, time, id AS transfer_id, kind, code,
               credit_account_id AS other_account_id, amount AS debit, 0::numeric AS credit,
               ledger, partition
          FROM transfers WHERE kind IN ('transfer', 'post') AND (sides IS NULL OR sides & 1 = 1)
        UNION ALL
        SELECT credit_account_id, log_offset, time, id, kind, code, debit_account_id, 0::numeric,
               amount, ledger, partition
          FROM transfers WHERE kind IN ('transfer', 'post') AND (other_partition IS NULL OR sides & 2 = 2)
        UNION ALL
        SELECT debit_account_id, log_offset, time, id, kind::transfer_kind, code, credit_account_id,
               amount, 0::numeric, ledger, partition
          FROM arrivals WHERE verdict = 0 AND kind = 'transfer' AND sides & 1 = 1
        UNION ALL
        SELECT credit_account_id, log_offset, time, id, kind::transfer_kind, code, debit_account_id,
               0::numeric, amount, ledger, partition
          FROM arrivals WHERE verdict = 0 AND kind IN ('transfer', 'post') AND (sides IS NULL OR sides & 2 = 2)
       ) AS moved;

CREATE OR REPLACE VIEW transfer_states AS
SELECT t.id, t.debit_account_id, t.credit_account_id, t.log_offset, t.time, t.ledger, t.partition, t.code,
       t.kind, t.flags, t.amount, t.amount_asked, t.pending_id, t.timeout_seconds, t.user_data_128,
       t.user_data_64, t.user_data_32, r.state, r.amount_posted, r.resolved_at, r.resolved_offset,
       t.other_partition, t.prepared_offset, t.sides
  FROM transfers t LEFT JOIN reservations r
    ON t.kind = 'pending' AND r.partition = t.partition AND r.id = t.id;

CREATE OR REPLACE VIEW spanning_transfers AS
SELECT s.id, s.pending_id,
       coalesce(s.kind, CASE get_byte(s.body, 118) & 14 WHEN 2 THEN 'pending' WHEN 4 THEN 'post' WHEN 8 THEN 'void' ELSE 'transfer' END) AS kind,
       coalesce(s.debit_account_id, a.debit_account_id) AS debit_account_id,
       coalesce(s.credit_account_id, a.credit_account_id) AS credit_account_id,
       coalesce(nullif(s.ledger, 0), a.ledger) AS ledger, coalesce(nullif(s.code, 0), a.code) AS code,
       CASE WHEN s.word IS NULL AND a.verdict = 0 THEN a.amount ELSE s.amount END AS amount,
       s.home, s.other_partition,
       CASE WHEN s.word = 0 AND (a.place IS NOT NULL OR s.asks OR s.kind NOT IN ('void', 'expire')) THEN 'settled'
            WHEN s.word > 0 THEN 'refused' WHEN a.verdict = 0 THEN 'arrived' ELSE 'under way' END AS state,
       s.time AS home_time, s.log_offset AS home_offset,
       a.time AS arrival_time, a.log_offset AS arrival_offset
  FROM (SELECT id, kind::text, null::bytea AS body, debit_account_id, credit_account_id, ledger, code, amount, partition AS home,
               other_partition, 0::smallint AS word, time, log_offset, prepared_offset AS place, pending_id,
               sides IS NOT NULL AS asks
          FROM transfers WHERE other_partition IS NOT NULL
        UNION ALL
        SELECT id, null, body, debit_account_id, credit_account_id,
               get_byte(body, 112) + (get_byte(body, 113) << 8) + (get_byte(body, 114) << 16)
               + (get_byte(body, 115)::bigint << 24),
               get_byte(body, 116) + (get_byte(body, 117) << 8), amount, partition,
               other_partition, verdict, time, log_offset, prepared_offset, null::uuid, true
          FROM refused_events WHERE other_partition IS NOT NULL
        UNION ALL
        SELECT id, null, body, debit_account_id, credit_account_id, ledger, code, amount, partition,
               other_partition, null, time, log_offset, log_offset, null, true
          FROM under_way
        UNION ALL
        -- Home is not projected so far.
        SELECT e.id, e.kind, null, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null, e.place, e.pending_id, true
          FROM arrivals e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.place) AS s
  LEFT JOIN arrivals a ON a.partition = s.other_partition AND a.home = s.home AND a.place = s.place;
COMMENT ON VIEW spanning_transfers IS
    'Transfers between partitions, reservations and their ends, and all of a chain over two partitions, with both sides of each: one row for each.';
COMMENT ON COLUMN spanning_transfers.home IS 'Partition that has prepared it.';
COMMENT ON COLUMN spanning_transfers.other_partition IS 'Partition that has the last word.';

-- As in version 4, but the last event of a chain may be a guard, which is never under way by itself: then the transfer
-- before it is asked for.
CREATE OR REPLACE FUNCTION walengine_wait_for(token text, timeout interval DEFAULT '10 seconds')
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET lock_timeout = '10s'
AS $$
DECLARE
    parts   text[] := regexp_match(token, '^([0-9a-fA-F]{1,32})-([0-9]{1,5})-([0-9]{1,20})$');
    give_up timestamptz := clock_timestamp() + timeout;
    place   bigint := least(parts[3]::numeric, 9223372036854775807); -- an offset may be larger
    ours    uuid;
    millis  numeric;
BEGIN
    IF parts IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not a token', token),
            HINT = 'A token is cluster-partition-offset, as walengine''s acknowledgements carry it.';
    END IF;
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE feature_not_supported USING
            MESSAGE = 'this transaction can''t see what is committed while it waits',
            HINT = 'Wait before the transaction, or use READ COMMITTED.';
    END IF;
    LOOP
        -- A lock on the tables is waited for no longer than until the end.
        millis := ceil(extract(epoch FROM give_up - clock_timestamp()) * 1000);
        PERFORM set_config('lock_timeout', least(greatest(millis, 1), 2000000000)::bigint::text, true);
        BEGIN
            IF ours IS NULL THEN
                SELECT cluster INTO ours FROM log;
                IF ours IS DISTINCT FROM lpad(parts[1], 32, '0')::uuid THEN
                    RAISE invalid_parameter_value USING
                        MESSAGE = format('the token is of cluster %s, this database of %s', parts[1], ours),
                        HINT = 'Ask the database that is derived from that cluster.';
                END IF;
            END IF;
            PERFORM FROM positions
              WHERE partition = parts[2]::integer AND next_offset > place
                AND NOT EXISTS (SELECT FROM (SELECT log_offset, body FROM under_way
                                              WHERE partition = parts[2]::integer AND log_offset <= place
                                              ORDER BY log_offset DESC LIMIT 1) AS newest
                                 WHERE log_offset = place
                                    OR log_offset > place - 8190 AND get_byte(body, 118) & 1 = 1);
            IF FOUND THEN
                RETURN true;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
        IF clock_timestamp() >= give_up THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.005);
    END LOOP;
END $$;
COMMENT ON FUNCTION walengine_wait_for IS
    'Waits until this database includes the write that the token was given for; of a transfer to another partition, what its home knows of it. True: the next statement sees it. False: it did not arrive within the timeout.';
