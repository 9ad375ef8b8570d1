-- Version 4: transfers between partitions. The partition of the debit account, its home, prepares one:
-- it reserves the amount. The partition of the credit account moves it or refuses it, which is the word.
-- With the word, home moves the amount too, or releases it.

ALTER TABLE transfers ADD COLUMN other_partition integer, ADD COLUMN prepared_offset bigint;
COMMENT ON TABLE transfers IS
    'Every accepted transfer, reservation, posting, voiding and expiry: one row for each, never updated. A transfer to another partition is a row of its home, from its word on. Table reservations has the state of reservations.';
COMMENT ON COLUMN transfers.log_offset IS
    'Offset of its record, for a transfer to another partition that of its word: the order of events in the partition.';
COMMENT ON COLUMN transfers.other_partition IS 'Partition of the credit account, if that is another one; else null.';
COMMENT ON COLUMN transfers.prepared_offset IS
    'Offset of the record that prepared it, which its acknowledgement names, if the credit account lives on another partition; else null.';

ALTER TABLE refused_events ADD COLUMN other_partition integer, ADD COLUMN prepared_offset bigint;
COMMENT ON COLUMN refused_events.log_offset IS 'Offset of its record, or of its word if another partition has refused it.';
COMMENT ON COLUMN refused_events.other_partition IS 'Partition that has refused it, if that is another one; else null.';
COMMENT ON COLUMN refused_events.prepared_offset IS
    'Offset of the record that prepared it, if another partition has refused it; else null.';

COMMENT ON COLUMN verdicts.number IS
    'Number in the log: 0 is accepted, 40 and above are refused, but for 110: prepared, without a word yet.';
COMMENT ON COLUMN accounts.id IS
    'Id; its upper 32 bits are the book. Book 2^32 - 1 has the in-transit accounts, of which each partition has its own: see view in_transit.';
COMMENT ON COLUMN accounts.log_offset IS 'Offset of the record that created it; of an in-transit account, of the first that changed it.';

CREATE TABLE under_way (
    id                uuid NOT NULL,
    debit_account_id  uuid NOT NULL,
    credit_account_id uuid NOT NULL,
    log_offset        bigint NOT NULL,
    time              timestamptz NOT NULL,
    ledger            bigint NOT NULL,
    partition         integer NOT NULL,
    other_partition   integer NOT NULL,
    code              integer NOT NULL,
    amount            numeric(39, 0) NOT NULL,
    body              bytea NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE under_way IS
    'Transfers to other partitions that are prepared and have no word yet. With its word a row goes, and becomes one of transfers or of refused_events.';
COMMENT ON COLUMN under_way.id IS 'Id of the transfer.';
COMMENT ON COLUMN under_way.debit_account_id IS 'Account that the amount is reserved from.';
COMMENT ON COLUMN under_way.credit_account_id IS 'Account of the other partition that it is meant for.';
COMMENT ON COLUMN under_way.log_offset IS 'Offset of the record that prepared it: its place in what goes to the other partition.';
COMMENT ON COLUMN under_way.time IS 'Log time of that record, truncated to microseconds.';
COMMENT ON COLUMN under_way.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN under_way.partition IS 'Partition of the log, and of the debit account.';
COMMENT ON COLUMN under_way.other_partition IS 'Partition of the credit account.';
COMMENT ON COLUMN under_way.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN under_way.amount IS 'Reserved amount in minor units.';
COMMENT ON COLUMN under_way.body IS 'The event as it was sent: 128 bytes, see FORMAT.md, section 3.';

CREATE TABLE arrivals (
    id                uuid NOT NULL,
    debit_account_id  uuid NOT NULL,
    credit_account_id uuid NOT NULL,
    log_offset        bigint NOT NULL,
    time              timestamptz NOT NULL,
    place             bigint NOT NULL,
    ledger            bigint NOT NULL,
    partition         integer NOT NULL,
    home              integer NOT NULL,
    code              integer NOT NULL,
    verdict           smallint NOT NULL,
    amount            numeric(39, 0) NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE arrivals IS
    'Every transfer from another partition, as it has arrived: one row for each, never updated. What was decided is its word.';
COMMENT ON COLUMN arrivals.id IS 'Id of the transfer, at its home.';
COMMENT ON COLUMN arrivals.debit_account_id IS 'Account of the other partition that it comes from.';
COMMENT ON COLUMN arrivals.credit_account_id IS 'Account that it is meant for.';
COMMENT ON COLUMN arrivals.log_offset IS 'Offset of its record.';
COMMENT ON COLUMN arrivals.time IS 'Log time, truncated to microseconds.';
COMMENT ON COLUMN arrivals.place IS 'Offset of the record that prepared it at its home.';
COMMENT ON COLUMN arrivals.ledger IS 'Ledger of the transfer: asset and scale.';
COMMENT ON COLUMN arrivals.partition IS 'Partition of the log, and of the credit account.';
COMMENT ON COLUMN arrivals.home IS 'Partition of the debit account.';
COMMENT ON COLUMN arrivals.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN arrivals.verdict IS 'Number of the verdict: 0 if it was moved; see table verdicts.';
COMMENT ON COLUMN arrivals.amount IS 'Amount in minor units that was moved; 0 if it was refused.';

CREATE OR REPLACE VIEW balances AS
SELECT id AS account_id, ledger, code, credits_posted - debits_posted AS balance,
       credits_posted - debits_posted - debits_pending AS available,
       debits_posted, credits_posted, debits_pending, credits_pending, version, closed
  FROM accounts WHERE id < 'ffffffff-0000-0000-0000-000000000000';
COMMENT ON VIEW balances IS 'Balances of accounts: credits minus debits, in minor units. In-transit accounts are in view in_transit.';

CREATE OR REPLACE VIEW account_statements AS
SELECT account_id, log_offset, time, transfer_id, kind, code, other_account_id, debit, credit,
       sum(credit - debit) OVER (PARTITION BY account_id ORDER BY log_offset
                                 ROWS UNBOUNDED PRECEDING) AS balance,
       ledger, partition
  FROM (SELECT debit_account_id AS account_id, log_offset, time, id AS transfer_id, kind, code,
               credit_account_id AS other_account_id, amount AS debit, 0::numeric AS credit,
               ledger, partition
          FROM transfers WHERE kind IN ('transfer', 'post')
        UNION ALL
        SELECT credit_account_id, log_offset, time, id, kind, code, debit_account_id, 0::numeric,
               amount, ledger, partition
          FROM transfers WHERE kind IN ('transfer', 'post') AND other_partition IS NULL
        UNION ALL
        SELECT credit_account_id, log_offset, time, id, 'transfer', code, debit_account_id, 0::numeric,
               amount, ledger, partition
          FROM arrivals WHERE verdict = 0) AS sides;
COMMENT ON COLUMN account_statements.log_offset IS
    'Offset of the record in the account''s own partition: the order of the rows.';
COMMENT ON COLUMN account_statements.partition IS 'Partition of the log, and of the account.';

CREATE OR REPLACE VIEW transfer_states AS
SELECT t.id, t.debit_account_id, t.credit_account_id, t.log_offset, t.time, t.ledger, t.partition, t.code,
       t.kind, t.flags, t.amount, t.amount_asked, t.pending_id, t.timeout_seconds, t.user_data_128,
       t.user_data_64, t.user_data_32, r.state, r.amount_posted, r.resolved_at, r.resolved_offset,
       t.other_partition, t.prepared_offset
  FROM transfers t LEFT JOIN reservations r
    ON t.kind = 'pending' AND r.partition = t.partition AND r.id = t.id;

CREATE VIEW spanning_transfers AS
SELECT s.id, s.debit_account_id, s.credit_account_id, s.ledger, s.code,
       CASE WHEN s.word IS NULL AND a.verdict = 0 THEN a.amount ELSE s.amount END AS amount,
       s.home, s.other_partition,
       CASE WHEN s.word = 0 THEN 'settled' WHEN s.word IS NOT NULL THEN 'refused'
            WHEN a.verdict = 0 THEN 'arrived' ELSE 'under way' END AS state,
       s.time AS home_time, s.log_offset AS home_offset,
       a.time AS arrival_time, a.log_offset AS arrival_offset
  FROM (SELECT id, debit_account_id, credit_account_id, ledger, code, amount, partition AS home,
               other_partition, 0::smallint AS word, time, log_offset
          FROM transfers WHERE other_partition IS NOT NULL
        UNION ALL
        SELECT id, debit_account_id, credit_account_id,
               get_byte(body, 112) + (get_byte(body, 113) << 8) + (get_byte(body, 114) << 16)
               + (get_byte(body, 115)::bigint << 24),
               get_byte(body, 116) + (get_byte(body, 117) << 8), amount, partition,
               other_partition, verdict, time, log_offset
          FROM refused_events WHERE other_partition IS NOT NULL
        UNION ALL
        SELECT id, debit_account_id, credit_account_id, ledger, code, amount, partition,
               other_partition, null, time, log_offset
          FROM under_way
        UNION ALL
        -- Home is not projected so far.
        SELECT e.id, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null
          FROM arrivals e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.place) AS s
  LEFT JOIN arrivals a ON a.partition = s.other_partition AND a.home = s.home AND a.id = s.id;
COMMENT ON VIEW spanning_transfers IS 'Transfers between partitions, with both sides of each: one row for each.';
COMMENT ON COLUMN spanning_transfers.id IS 'Id of the transfer.';
COMMENT ON COLUMN spanning_transfers.debit_account_id IS 'Account that it comes from.';
COMMENT ON COLUMN spanning_transfers.credit_account_id IS 'Account that it is meant for.';
COMMENT ON COLUMN spanning_transfers.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN spanning_transfers.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN spanning_transfers.amount IS
    'Amount in minor units: moved; reserved while under way; as it was sent if refused.';
COMMENT ON COLUMN spanning_transfers.home IS 'Partition of the debit account.';
COMMENT ON COLUMN spanning_transfers.other_partition IS 'Partition of the credit account, which has the last word.';
COMMENT ON COLUMN spanning_transfers.state IS
    'Under way: prepared at home. Arrived: moved at the other partition, and home''s part is not here yet. Settled: moved at both. Refused: moved at none.';
COMMENT ON COLUMN spanning_transfers.home_time IS
    'Log time at home of its word, or while it has none, of the record that prepared it; null if home is not projected so far.';
COMMENT ON COLUMN spanning_transfers.home_offset IS 'Offset of that record.';
COMMENT ON COLUMN spanning_transfers.arrival_time IS 'Log time of its arrival; null while that is not here.';
COMMENT ON COLUMN spanning_transfers.arrival_offset IS 'Offset of its arrival in the other partition.';

CREATE VIEW in_transit AS
SELECT partition, (get_byte(uuid_send(id), 10) << 8) + get_byte(uuid_send(id), 11) AS other_partition, ledger,
       debits_posted, credits_posted, debits_pending, credits_pending
  FROM accounts WHERE id >= 'ffffffff-0000-0000-0000-000000000000';
COMMENT ON VIEW in_transit IS
    'In-transit accounts: what each partition has sent to each other one, and has from it. The two of a pair cancel once nothing is under way.';
COMMENT ON COLUMN in_transit.partition IS 'Partition of the log.';
COMMENT ON COLUMN in_transit.other_partition IS 'The other partition.';
COMMENT ON COLUMN in_transit.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN in_transit.debits_posted IS 'Has arrived from the other partition, in minor units.';
COMMENT ON COLUMN in_transit.credits_posted IS 'Was sent to the other partition, and has arrived there.';
COMMENT ON COLUMN in_transit.debits_pending IS 'Always 0.';
COMMENT ON COLUMN in_transit.credits_pending IS 'Is under way to the other partition: reserved.';

CREATE VIEW trial_balance AS
SELECT ledger, sum(debits_posted) AS debits_posted, sum(credits_posted) AS credits_posted,
       coalesce(sum(debits_posted - credits_posted)
                FILTER (WHERE id >= 'ffffffff-0000-0000-0000-000000000000'), 0) AS in_transit
  FROM accounts GROUP BY ledger;
COMMENT ON VIEW trial_balance IS
    'Sums of each ledger over all accounts of all partitions. Debits always equal credits, since every record moves one amount within its partition.';
COMMENT ON COLUMN trial_balance.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN trial_balance.debits_posted IS 'Sum of all posted debits, in-transit accounts included.';
COMMENT ON COLUMN trial_balance.credits_posted IS 'Sum of all posted credits, in-transit accounts included.';
COMMENT ON COLUMN trial_balance.in_transit IS
    'Arrived and not settled at home yet, in minor units; 0 once nothing is under way. Below 0 if homes are projected further than others.';

-- As in version 3, but a transfer to another partition is there with its word.
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
                AND NOT EXISTS (SELECT FROM under_way
                                 WHERE partition = parts[2]::integer AND log_offset = place);
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
