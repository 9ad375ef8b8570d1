-- Version 8: striped accounts. Such an account has a part, its stripe, in each partition: a row of accounts with the same id
-- there. Transfers with others move on the partition of the other account. A stripe that lacks credits is given them by another
-- one: that is a gathering, in the log a transfer from the account to itself. It changes no sum, so views leave it out.

ALTER TABLE accounts ADD COLUMN home integer;
ALTER TABLE under_way ALTER COLUMN id DROP NOT NULL;

COMMENT ON TABLE accounts IS
    'Accounts with their balances, as of positions.next_offset. A striped account has a row of each partition, its stripes: view balances has their sums.';
COMMENT ON COLUMN accounts.id IS
    'Id; its upper 32 bits are the book. Book 2^32 - 1 has the in-transit accounts, of which each partition has its own: see view in_transit. Book 2^32 - 2 has the striped accounts: see view account_stripes.';
COMMENT ON COLUMN accounts.log_offset IS
    'Offset of the record that created it; of an in-transit account, of the first that changed it; of a stripe, of the record in its own partition.';
COMMENT ON COLUMN accounts.home IS
    'Of a stripe: the partition that has created its account, if that is another one. Else null: of each account, one row has null.';
COMMENT ON COLUMN transfers.id IS 'Id; null for an expiry, which has none, and for a gathering.';
COMMENT ON COLUMN transfers.flags IS
    'Flags in the log: 1 linked, 2 pending, 4 post, 8 void, 16 balancing debit, 32 balancing credit, 2048 gathering: a stripe of an account has given credits to that of other_partition. That is no transfer of anybody''s.';
COMMENT ON COLUMN refused_events.id IS
    'Id of the event; for a refused account, the id of the account; null if it has none, and for a gathering.';
COMMENT ON COLUMN under_way.id IS 'Id of the transfer, at its home; null for a gathering.';
COMMENT ON COLUMN arrivals.id IS
    'Id of the transfer, at its home; null for the end of a reservation that was voided or has expired, and for a gathering, whose two accounts are the same.';
COMMENT ON TABLE account_events IS
    'Guards that held, closings and reopenings of accounts. A guard in a chain over several partitions stands where its account lives. The closing of a striped account is a row of each partition.';

CREATE OR REPLACE VIEW balances AS
SELECT id AS account_id, ledger, code, credits_posted - debits_posted AS balance,
       credits_posted - debits_posted - debits_pending AS available,
       debits_posted, credits_posted, debits_pending, credits_pending, version, closed
  FROM accounts WHERE id < 'fffffffe-0000-0000-0000-000000000000'
UNION ALL
SELECT a.id, a.ledger, a.code, s.credits_posted - s.debits_posted,
       s.credits_posted - s.debits_posted - s.debits_pending,
       (CASE WHEN s.debits_posted < 1e39 THEN s.debits_posted END)::numeric(39, 0),
       (CASE WHEN s.credits_posted < 1e39 THEN s.credits_posted END)::numeric(39, 0),
       (CASE WHEN s.debits_pending < 1e39 THEN s.debits_pending END)::numeric(39, 0),
       (CASE WHEN s.credits_pending < 1e39 THEN s.credits_pending END)::numeric(39, 0),
       s.version::bigint, a.closed
  FROM accounts a CROSS JOIN LATERAL (
       SELECT sum(debits_posted) AS debits_posted, sum(credits_posted) AS credits_posted,
              sum(debits_pending) AS debits_pending, sum(credits_pending) AS credits_pending,
              sum(version) AS version
         FROM accounts WHERE id = a.id) AS s
 WHERE a.id >= 'fffffffe-0000-0000-0000-000000000000' AND a.id < 'ffffffff-0000-0000-0000-000000000000'
   AND a.home IS NULL;
COMMENT ON VIEW balances IS
    'Balances of accounts: credits minus debits, in minor units. A striped account is one row with the sums of its stripes, once its home is projected up to its creation. In-transit accounts are in view in_transit.';
COMMENT ON COLUMN balances.version IS 'Number of changes since its creation; of a striped account, of all its stripes.';
COMMENT ON COLUMN balances.debits_posted IS 'Moved out of the account. A sum of stripes past 39 digits is null here and below.';
COMMENT ON COLUMN balances.closed IS 'Whether it is closed to new transfers; of a striped account, at its home.';

CREATE VIEW account_stripes AS
SELECT id AS account_id, partition, ledger, code, credits_posted - debits_posted AS balance,
       credits_posted - debits_posted - debits_pending AS available,
       debits_posted, credits_posted, debits_pending, credits_pending, version, closed,
       home, log_offset, time
  FROM accounts
 WHERE id >= 'fffffffe-0000-0000-0000-000000000000' AND id < 'ffffffff-0000-0000-0000-000000000000';
COMMENT ON VIEW account_stripes IS
    'Striped accounts, partition by partition. A stripe decides with its own balance, and is given credits by others if that is too low.';
COMMENT ON COLUMN account_stripes.account_id IS 'Id of the account.';
COMMENT ON COLUMN account_stripes.partition IS 'Partition of the stripe.';
COMMENT ON COLUMN account_stripes.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN account_stripes.code IS 'Kind of account, defined by the user.';
COMMENT ON COLUMN account_stripes.balance IS 'Posted credits minus posted debits of this stripe.';
COMMENT ON COLUMN account_stripes.available IS 'Balance minus pending debits: what this stripe can pay without asking others.';
COMMENT ON COLUMN account_stripes.debits_posted IS 'Moved out of the account in this partition.';
COMMENT ON COLUMN account_stripes.credits_posted IS
    'Moved into the account in this partition, plus what other stripes have given, minus what it has given them.';
COMMENT ON COLUMN account_stripes.debits_pending IS 'Reserved by pending transfers from the account, and for other stripes.';
COMMENT ON COLUMN account_stripes.credits_pending IS 'Reserved by pending transfers to the account.';
COMMENT ON COLUMN account_stripes.version IS 'Number of changes of this stripe.';
COMMENT ON COLUMN account_stripes.closed IS 'Whether this stripe is closed to new transfers.';
COMMENT ON COLUMN account_stripes.home IS 'As in table accounts.';
COMMENT ON COLUMN account_stripes.log_offset IS 'Offset of the record that created this stripe.';
COMMENT ON COLUMN account_stripes.time IS 'Log time of that record, truncated to microseconds.';

-- Offsets of several partitions have no order, times have. Only an own arm for striped accounts keeps the order of offsets, and
-- its indexes, for all others.
CREATE OR REPLACE VIEW account_statements AS
WITH moved AS NOT MATERIALIZED (
    SELECT debit_account_id AS account_id, log_offset, time, id AS transfer_id, kind, code,
           credit_account_id AS other_account_id, amount AS debit, 0::numeric AS credit,
           ledger, partition
      FROM transfers
     WHERE kind IN ('transfer', 'post') AND (sides IS NULL OR sides & 1 = 1) AND flags & 2048 <> 2048
    UNION ALL
    SELECT credit_account_id, log_offset, time, id, kind, code, debit_account_id, 0::numeric,
           amount, ledger, partition
      FROM transfers
     WHERE kind IN ('transfer', 'post') AND (other_partition IS NULL OR sides & 2 = 2) AND flags & 2048 <> 2048
    UNION ALL
    SELECT debit_account_id, log_offset, time, id, kind::transfer_kind, code, credit_account_id,
           amount, 0::numeric, ledger, partition
      FROM arrivals WHERE verdict = 0 AND kind = 'transfer' AND sides & 1 = 1
    UNION ALL
    SELECT credit_account_id, log_offset, time, id, kind::transfer_kind, code, debit_account_id,
           0::numeric, amount, ledger, partition
      FROM arrivals
     WHERE verdict = 0 AND kind IN ('transfer', 'post') AND (sides IS NULL OR sides & 2 = 2)
       AND debit_account_id <> credit_account_id
)
SELECT account_id, log_offset, time, transfer_id, kind, code, other_account_id, debit, credit,
       sum(credit - debit) OVER (PARTITION BY account_id ORDER BY log_offset
                                 ROWS UNBOUNDED PRECEDING) AS balance,
       ledger, partition
  FROM moved WHERE account_id < 'fffffffe-0000-0000-0000-000000000000'
UNION ALL
SELECT account_id, log_offset, time, transfer_id, kind, code, other_account_id, debit, credit,
       sum(credit - debit) OVER (PARTITION BY account_id ORDER BY time, partition, log_offset
                                 ROWS UNBOUNDED PRECEDING),
       ledger, partition
  FROM moved WHERE account_id >= 'fffffffe-0000-0000-0000-000000000000';
COMMENT ON VIEW account_statements IS
    'Moved money by account, with the balance after each row. Query it with WHERE account_id = ... ORDER BY log_offset; for a striped account, which has movements in each partition, ORDER BY time, partition, log_offset. What its stripes give each other is left out.';
COMMENT ON COLUMN account_statements.log_offset IS
    'Offset of the record in the account''s own partition: the order of the rows. Of a striped account, in the partition of the row.';
COMMENT ON COLUMN account_statements.balance IS
    'Credits minus debits up to this row. Of a striped account, rows may still come in between until all partitions are projected up to its time.';
COMMENT ON COLUMN account_statements.partition IS 'Partition of the log, and of the account or of its stripe.';

CREATE OR REPLACE VIEW transfer_states AS
SELECT t.id, t.debit_account_id, t.credit_account_id, t.log_offset, t.time, t.ledger, t.partition, t.code,
       t.kind, t.flags, t.amount, t.amount_asked, t.pending_id, t.timeout_seconds, t.user_data_128,
       t.user_data_64, t.user_data_32, r.state, r.amount_posted, r.resolved_at, r.resolved_offset,
       t.other_partition, t.prepared_offset, t.sides, t.transit_partition
  FROM transfers t LEFT JOIN reservations r
    ON t.kind = 'pending' AND r.partition = t.partition AND r.id = t.id
 WHERE t.flags & 2048 <> 2048;
COMMENT ON VIEW transfer_states IS
    'Transfers, with the state of pending ones, and without gatherings. For the columns see tables transfers and reservations.';

-- As in version 7, without gatherings: bit 8 of the second byte of the flags. (A comparison with 0 would be planned as one that
-- few rows pass.)
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
          FROM transfers WHERE other_partition IS NOT NULL AND flags & 2048 <> 2048
        UNION ALL
        SELECT id, null, body, debit_account_id, credit_account_id,
               get_byte(body, 112) + (get_byte(body, 113) << 8) + (get_byte(body, 114) << 16)
               + (get_byte(body, 115)::bigint << 24),
               get_byte(body, 116) + (get_byte(body, 117) << 8), amount, partition,
               other_partition, verdict, time, log_offset, prepared_offset, null::uuid, true
          FROM refused_events WHERE other_partition IS NOT NULL AND get_byte(body, 119) & 8 <> 8
        UNION ALL
        SELECT id, null, body, debit_account_id, credit_account_id, ledger, code, amount, partition,
               other_partition, null, time, log_offset, log_offset, null, true
          FROM under_way WHERE home IS NULL AND get_byte(body, 119) & 8 <> 8
        UNION ALL
        -- Home is not projected so far.
        SELECT e.id, e.kind, null, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null, e.place, e.pending_id, true
          FROM arrivals e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.place
         WHERE e.origin IS NULL AND (e.kind <> 'transfer' OR e.debit_account_id <> e.credit_account_id)
        UNION ALL
        SELECT e.id, null, e.body, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null, e.home_place, null, true
          FROM under_way e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.home_place
         WHERE e.origin IS NULL) AS s
  LEFT JOIN arrivals a ON a.partition = s.other_partition AND a.home = s.home AND a.place = s.place;
COMMENT ON COLUMN in_transit.credits_posted IS
    'Was sent to the other partition, and has arrived there; what stripes of accounts have given to that partition included.';
