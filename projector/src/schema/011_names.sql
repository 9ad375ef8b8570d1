-- Version 11: names of accounts, and what ledgers are.

ALTER TABLE account_events ALTER COLUMN account_id DROP NOT NULL;
ALTER TABLE account_events ADD COLUMN ledger bigint, ADD COLUMN name text, ADD COLUMN scale smallint;
COMMENT ON TABLE account_events IS
    'Guards that held, closings, reopenings and namings of accounts, and descriptions of ledgers. A guard in a chain over several partitions stands where its account lives. The closing of a striped account is a row of each partition.';
COMMENT ON COLUMN account_events.account_id IS 'Account that was checked, closed, reopened or named; null for a ledger.';
COMMENT ON COLUMN account_events.kind IS 'Kind of event: guard, close, reopen, name or describe.';
COMMENT ON COLUMN account_events.ledger IS 'Ledger that was described; null for others.';
COMMENT ON COLUMN account_events.name IS 'Name that was given to the account, or to the asset of the ledger; empty if it was taken away. Null for others.';
COMMENT ON COLUMN account_events.scale IS 'Digits behind the point in amounts of the ledger; null for others.';

CREATE VIEW account_names AS
SELECT account_id, name, time AS named_at, partition, log_offset
  FROM (SELECT DISTINCT ON (account_id) account_id, name, time, partition, log_offset
          FROM account_events WHERE kind = 'name' ORDER BY account_id, log_offset DESC) AS newest
 WHERE name <> '';
COMMENT ON VIEW account_names IS
    'What accounts are called now. Two may have the same name. Every name that was ever given is in account_events, with kind name.';
COMMENT ON COLUMN account_names.account_id IS 'Id of the account.';
COMMENT ON COLUMN account_names.name IS 'Its name.';
COMMENT ON COLUMN account_names.named_at IS 'Log time of the naming.';
COMMENT ON COLUMN account_names.partition IS 'Partition of the log.';
COMMENT ON COLUMN account_names.log_offset IS 'Offset of the naming.';

CREATE VIEW ledgers AS
SELECT DISTINCT ON (ledger) ledger, name, scale, time AS described_at
  FROM account_events WHERE kind = 'describe' AND partition = 0 ORDER BY ledger, log_offset DESC;
COMMENT ON VIEW ledgers IS 'What the amounts of ledgers are, as far as that was described.';
COMMENT ON COLUMN ledgers.ledger IS 'Its number.';
COMMENT ON COLUMN ledgers.name IS 'What its asset is called; may be empty.';
COMMENT ON COLUMN ledgers.scale IS 'Digits behind the point.';
COMMENT ON COLUMN ledgers.described_at IS 'Log time of the description.';

CREATE FUNCTION with_decimals(amount numeric, of_ledger bigint)
RETURNS numeric
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path FROM CURRENT AS $$
    SELECT coalesce((SELECT CASE scale WHEN 0 THEN amount
                                 ELSE round(amount * (('1e-' || scale)::numeric), scale) END
                       FROM ledgers WHERE ledger = of_ledger), amount)
$$;
COMMENT ON FUNCTION with_decimals(numeric, bigint) IS
    'An amount in minor units with the decimals of its ledger, exactly: 12.34 for 1234 at scale 2; as it is if the ledger was not described.';

CREATE VIEW named_balances AS
SELECT b.account_id, n.name, b.ledger, l.name AS ledger_name, b.code,
       with_decimals(b.balance, b.ledger) AS balance, with_decimals(b.available, b.ledger) AS available,
       with_decimals(b.debits_posted, b.ledger) AS debits_posted,
       with_decimals(b.credits_posted, b.ledger) AS credits_posted,
       with_decimals(b.debits_pending, b.ledger) AS debits_pending,
       with_decimals(b.credits_pending, b.ledger) AS credits_pending, b.version, b.closed
  FROM balances b LEFT JOIN account_names n ON n.account_id = b.account_id LEFT JOIN ledgers l ON l.ledger = b.ledger;
COMMENT ON VIEW named_balances IS
    'Balances for people: with names, and amounts with the decimals of their ledgers. Query it with WHERE account_id = ... or WHERE name = ...';
COMMENT ON COLUMN named_balances.account_id IS 'Id of the account.';
COMMENT ON COLUMN named_balances.name IS 'What it is called; null if it has no name.';
COMMENT ON COLUMN named_balances.ledger IS 'Number of its ledger.';
COMMENT ON COLUMN named_balances.ledger_name IS 'What the asset of its ledger is called; null if the ledger was not described.';
COMMENT ON COLUMN named_balances.code IS 'Kind of account, defined by the user.';
COMMENT ON COLUMN named_balances.balance IS 'Posted credits minus posted debits.';
COMMENT ON COLUMN named_balances.available IS 'Balance minus pending debits.';
COMMENT ON COLUMN named_balances.debits_posted IS 'Moved out of the account.';
COMMENT ON COLUMN named_balances.credits_posted IS 'Moved into the account.';
COMMENT ON COLUMN named_balances.debits_pending IS 'Reserved by pending transfers from the account.';
COMMENT ON COLUMN named_balances.credits_pending IS 'Reserved by pending transfers to the account.';
COMMENT ON COLUMN named_balances.version IS 'Number of changes since its creation.';
COMMENT ON COLUMN named_balances.closed IS 'Whether it is closed to new transfers.';
