-- Version 2: views for common questions, read-your-writes, and the role of readers.

CREATE VIEW balances AS
SELECT id AS account_id, ledger, code, credits_posted - debits_posted AS balance,
       credits_posted - debits_posted - debits_pending AS available,
       debits_posted, credits_posted, debits_pending, credits_pending, version, closed
  FROM accounts;
COMMENT ON VIEW balances IS 'Balances of accounts: credits minus debits, in minor units.';
COMMENT ON COLUMN balances.account_id IS 'Id of the account.';
COMMENT ON COLUMN balances.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN balances.code IS 'Kind of account, defined by the user.';
COMMENT ON COLUMN balances.balance IS 'Posted credits minus posted debits.';
COMMENT ON COLUMN balances.available IS 'Balance minus pending debits.';
COMMENT ON COLUMN balances.debits_posted IS 'Moved out of the account.';
COMMENT ON COLUMN balances.credits_posted IS 'Moved into the account.';
COMMENT ON COLUMN balances.debits_pending IS 'Reserved by pending transfers from the account.';
COMMENT ON COLUMN balances.credits_pending IS 'Reserved by pending transfers to the account.';
COMMENT ON COLUMN balances.version IS 'Number of changes since its creation.';
COMMENT ON COLUMN balances.closed IS 'Whether it is closed to new transfers.';

CREATE VIEW account_statements AS
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
          FROM transfers WHERE kind IN ('transfer', 'post')) AS sides;
COMMENT ON VIEW account_statements IS
    'Moved money by account, with the balance after each row. Query it with WHERE account_id = ... ORDER BY log_offset.';
COMMENT ON COLUMN account_statements.account_id IS 'Account of the statement.';
COMMENT ON COLUMN account_statements.log_offset IS 'Offset of the record: the order of the rows.';
COMMENT ON COLUMN account_statements.time IS 'Log time.';
COMMENT ON COLUMN account_statements.transfer_id IS 'Id of the transfer or posting.';
COMMENT ON COLUMN account_statements.kind IS 'Kind: transfer or post.';
COMMENT ON COLUMN account_statements.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN account_statements.other_account_id IS 'Account on the other side.';
COMMENT ON COLUMN account_statements.debit IS 'Amount moved out, or 0.';
COMMENT ON COLUMN account_statements.credit IS 'Amount moved in, or 0.';
COMMENT ON COLUMN account_statements.balance IS 'Credits minus debits up to this row.';
COMMENT ON COLUMN account_statements.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN account_statements.partition IS 'Partition of the log.';

CREATE VIEW pending_transfers AS
SELECT id, debit_account_id, credit_account_id, amount, ledger, code, time, expires_at,
       partition, log_offset
  FROM reservations WHERE state = 'pending';
COMMENT ON VIEW pending_transfers IS 'Reservations that are not posted, voided or expired.';
COMMENT ON COLUMN pending_transfers.id IS 'Id of the pending transfer.';
COMMENT ON COLUMN pending_transfers.debit_account_id IS 'Account that the amount is reserved from.';
COMMENT ON COLUMN pending_transfers.credit_account_id IS 'Account that the amount is reserved for.';
COMMENT ON COLUMN pending_transfers.amount IS 'Reserved amount in minor units.';
COMMENT ON COLUMN pending_transfers.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN pending_transfers.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN pending_transfers.time IS 'Log time.';
COMMENT ON COLUMN pending_transfers.expires_at IS 'When it expires; null if never.';
COMMENT ON COLUMN pending_transfers.partition IS 'Partition of the log.';
COMMENT ON COLUMN pending_transfers.log_offset IS 'Offset of its record.';

CREATE VIEW transfer_states AS
SELECT t.*, r.state, r.amount_posted, r.resolved_at, r.resolved_offset
  FROM transfers t LEFT JOIN reservations r
    ON t.kind = 'pending' AND r.partition = t.partition AND r.id = t.id;
COMMENT ON VIEW transfer_states IS
    'Transfers, with the state of pending ones. For the columns see tables transfers and reservations.';

CREATE FUNCTION walengine_wait_for(token text, timeout interval DEFAULT '10 seconds')
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    parts   text[] := regexp_match(token, '^([0-9a-fA-F]{1,32})-([0-9]{1,5})-([0-9]{1,20})$');
    give_up timestamptz := clock_timestamp() + timeout;
    ours    uuid;
BEGIN
    IF parts IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not a token', token),
            HINT = 'A token is cluster-partition-offset, as walengine''s acknowledgements carry it.';
    END IF;
    SELECT cluster INTO ours FROM log;
    IF ours IS DISTINCT FROM lpad(parts[1], 32, '0')::uuid THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the token is of cluster %s, this database of %s', parts[1], ours),
            HINT = 'Ask the database that is derived from that cluster.';
    END IF;
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE feature_not_supported USING
            MESSAGE = 'this transaction can''t see what is committed while it waits',
            HINT = 'Wait before the transaction, or use READ COMMITTED.';
    END IF;
    LOOP
        PERFORM FROM positions
          WHERE partition = parts[2]::integer AND next_offset > parts[3]::numeric;
        IF FOUND THEN
            RETURN true;
        ELSIF clock_timestamp() >= give_up THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.005);
    END LOOP;
END $$;
COMMENT ON FUNCTION walengine_wait_for IS
    'Waits until this database includes the write that the token was given for. True: the next statement sees it. False: it did not arrive within the timeout.';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'walengine_reader') THEN
        CREATE ROLE walengine_reader NOLOGIN;
        COMMENT ON ROLE walengine_reader IS
            'May read the tables of walengine-projector. Grant it to people and programs: GRANT walengine_reader TO ...';
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE WARNING 'the role walengine_reader is missing, and % may not create it', current_user
            USING HINT = 'Have an administrator run CREATE ROLE walengine_reader, and start again.';
END $$;
