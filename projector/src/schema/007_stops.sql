-- Version 7: linked chains over three and more partitions. A chain is handed on from stop to stop. Each but the last prepares
-- it, as its home does, and has the word of the next one. So what has arrived may be under way, and is a row of arrivals
-- once it has its word. The account that lives elsewhere need not live at a neighbour on the way.

ALTER TABLE transfers ADD COLUMN transit_partition integer;
ALTER TABLE refused_events ADD COLUMN transit_partition integer;
ALTER TABLE under_way ADD COLUMN transit_partition integer, ADD COLUMN home integer, ADD COLUMN home_place bigint,
    ADD COLUMN origin integer;
ALTER TABLE arrivals ADD COLUMN transit_partition integer, ADD COLUMN origin integer,
    ADD COLUMN other_partition integer, ADD COLUMN prepared_offset bigint;

COMMENT ON COLUMN transfers.sides IS
    'Of a chain over several partitions: 1 if the debit account lives in this one, plus 2 if the credit account does. Else null.';
COMMENT ON COLUMN transfers.transit_partition IS
    'Of a chain: partition of the account that lives elsewhere, if only one does and that is not other_partition. Else null.';
COMMENT ON COLUMN transfers.other_partition IS
    'Partition that gave the word: that of the credit account or, in a chain, the one that it was handed on to; null if none did.';
COMMENT ON COLUMN transfers.prepared_offset IS
    'Offset of the record that prepared it, which its acknowledgement names, if another partition gave the word; of a voiding or expiry of a reservation between partitions, its own; else null.';
COMMENT ON COLUMN refused_events.transit_partition IS 'As in table transfers, if another partition gave the word.';
COMMENT ON COLUMN refused_events.other_partition IS
    'Partition that gave the word by which it was refused, if that is another one; else null. In a chain a later one may have refused it.';
COMMENT ON COLUMN refused_events.body IS
    'The event as it was sent: 128 bytes, see FORMAT.md, section 3. Of a guard in a chain over several partitions, as it has arrived.';
COMMENT ON TABLE account_events IS
    'Guards that held, closings and reopenings of accounts. A guard in a chain over several partitions stands where its account lives.';

COMMENT ON TABLE under_way IS
    'Transfers, reservations and ends of reservations on which another partition gives the word, and that have none yet: at their home, and at each stop of a chain that has handed them on. With its word a row goes. At home it becomes one of transfers or of refused_events, elsewhere one of arrivals.';
COMMENT ON COLUMN under_way.id IS 'Id of the transfer, at its home.';
COMMENT ON COLUMN under_way.log_offset IS
    'Offset of the record that prepared it, or of its arrival: its place in what goes to the other partition.';
COMMENT ON COLUMN under_way.partition IS 'Partition of the log.';
COMMENT ON COLUMN under_way.other_partition IS 'Partition that gives the word: it was handed on to that.';
COMMENT ON COLUMN under_way.body IS 'The event as it was sent, or as it has arrived: 128 bytes, see FORMAT.md, section 3.';
COMMENT ON COLUMN under_way.transit_partition IS 'As in table transfers.';
COMMENT ON COLUMN under_way.home IS 'Partition that it has come from; null at its home.';
COMMENT ON COLUMN under_way.home_place IS 'Offset of its record there.';
COMMENT ON COLUMN under_way.origin IS 'As in table arrivals.';

COMMENT ON TABLE arrivals IS
    'Every transfer that another partition has prepared, reservation or end of one, as it has arrived and was decided: one row for each, never updated. One that was handed on is a row from its word on. In a chain, a row may change nothing here.';
COMMENT ON COLUMN arrivals.log_offset IS
    'Offset of its record, or of its word if it was handed on: the order of events in the partition.';
COMMENT ON COLUMN arrivals.time IS 'Log time of that record, truncated to microseconds.';
COMMENT ON COLUMN arrivals.place IS 'Offset of its record in the partition that it has come from.';
COMMENT ON COLUMN arrivals.partition IS 'Partition of the log.';
COMMENT ON COLUMN arrivals.home IS 'Partition that has prepared it and handed it on: the one before on the way of a chain.';
COMMENT ON COLUMN arrivals.transit_partition IS
    'Of a chain: partition of the account that lives elsewhere, if only one does and that is not home. Else null.';
COMMENT ON COLUMN arrivals.origin IS 'Home of its chain, if that is another partition than home; else null.';
COMMENT ON COLUMN arrivals.other_partition IS 'Partition that it was handed on to, which gave the word; null if it was decided here.';
COMMENT ON COLUMN arrivals.prepared_offset IS
    'Offset of its arrival, if it was handed on: its place in what goes to the other partition; else null.';

CREATE OR REPLACE VIEW transfer_states AS
SELECT t.id, t.debit_account_id, t.credit_account_id, t.log_offset, t.time, t.ledger, t.partition, t.code,
       t.kind, t.flags, t.amount, t.amount_asked, t.pending_id, t.timeout_seconds, t.user_data_128,
       t.user_data_64, t.user_data_32, r.state, r.amount_posted, r.resolved_at, r.resolved_offset,
       t.other_partition, t.prepared_offset, t.sides, t.transit_partition
  FROM transfers t LEFT JOIN reservations r
    ON t.kind = 'pending' AND r.partition = t.partition AND r.id = t.id;

-- Of a chain, what its home and the first stop behind it know.
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
          FROM under_way WHERE home IS NULL
        UNION ALL
        -- Home is not projected so far.
        SELECT e.id, e.kind, null, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null, e.place, e.pending_id, true
          FROM arrivals e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.place
         WHERE e.origin IS NULL
        UNION ALL
        SELECT e.id, null, e.body, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null, e.home_place, null, true
          FROM under_way e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.home_place
         WHERE e.origin IS NULL) AS s
  LEFT JOIN arrivals a ON a.partition = s.other_partition AND a.home = s.home AND a.place = s.place;
COMMENT ON VIEW spanning_transfers IS
    'Transfers between partitions, reservations and their ends, and all of a chain over several partitions, with both sides of each: one row for each. Of a chain over more than two, the sides are its home and the partition that this has handed it on to.';
COMMENT ON COLUMN spanning_transfers.home IS 'Partition that it was sent to, and that has prepared it.';
COMMENT ON COLUMN spanning_transfers.other_partition IS 'Partition that gives home the word.';
COMMENT ON COLUMN spanning_transfers.state IS
    'Under way: prepared at home, or ended there. Arrived: the other partition has given the word, and home''s part is not here yet. Settled: done at both. Refused: done at none.';
COMMENT ON COLUMN spanning_transfers.arrival_time IS
    'Log time of its arrival or, if it was handed on from there, of its word in the other partition; null while that is not here.';
COMMENT ON COLUMN spanning_transfers.arrival_offset IS 'Offset of that record in the other partition.';
COMMENT ON COLUMN trial_balance.in_transit IS
    'Arrived and not settled at home yet, in minor units; 0 once nothing is under way. Below 0 if homes are projected further than others, or a chain pays an earlier partition of its path.';

-- As in version 6. What others have sent, and is under way here, nobody waits for: a token of that is behind its outcome.
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
                                              WHERE partition = parts[2]::integer AND home IS NULL
                                                AND log_offset <= place
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
    'Waits until this database includes the write that the token was given for; of a transfer between partitions, what the token''s partition knows of it. True: the next statement sees it. False: it did not arrive within the timeout.';
