-- Version 5: reservations between partitions. Home prepares one, as it does a transfer; with the word it is open, and
-- has its side in the other partition. A posting is prepared, too. Who voids it, or lets it expire, decides that at
-- home: the other partition is told, and its side goes.

ALTER TABLE arrivals ADD COLUMN kind text NOT NULL DEFAULT 'transfer', ADD COLUMN pending_id uuid,
    ALTER COLUMN id DROP NOT NULL;
ALTER TABLE arrivals ALTER COLUMN kind DROP DEFAULT;
COMMENT ON TABLE arrivals IS
    'Every transfer from another partition, reservation or end of one, as it has arrived: one row for each, never updated. What was decided is its word.';
COMMENT ON COLUMN arrivals.id IS 'Id of the transfer, at its home; null for the end of a reservation that was voided or has expired.';
COMMENT ON COLUMN arrivals.amount IS
    'Amount in minor units that was moved, reserved or, by a voiding, released; 0 if it was refused.';
COMMENT ON COLUMN arrivals.kind IS 'Effect: transfer, pending, post or void; an expiry is a voiding.';
COMMENT ON COLUMN arrivals.pending_id IS 'Reservation of its home that it ends; else null.';

COMMENT ON TABLE under_way IS
    'Transfers, reservations and postings of reservations to other partitions that are prepared and have no word yet. With its word a row goes, and becomes one of transfers or of refused_events.';
COMMENT ON COLUMN under_way.amount IS 'Amount in minor units: reserved, or by a posting to be moved.';
COMMENT ON COLUMN transfers.prepared_offset IS
    'Offset of the record that prepared it, which its acknowledgement names, if the credit account lives on another partition; of a voiding or expiry, its own; else null.';
COMMENT ON COLUMN reservations.log_offset IS
    'Offset of the record that reserved; of a reservation to another partition that of its word.';
COMMENT ON COLUMN in_transit.debits_pending IS 'Is reserved here by reservations of the other partition.';
COMMENT ON COLUMN in_transit.credits_pending IS
    'Is reserved for the other partition: under way, or by open reservations.';

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
        SELECT credit_account_id, log_offset, time, id, kind::transfer_kind, code, debit_account_id,
               0::numeric, amount, ledger, partition
          FROM arrivals WHERE verdict = 0 AND kind IN ('transfer', 'post')) AS sides;

DROP VIEW spanning_transfers;
CREATE VIEW spanning_transfers AS
SELECT s.id, s.pending_id, s.kind,
       coalesce(s.debit_account_id, a.debit_account_id) AS debit_account_id,
       coalesce(s.credit_account_id, a.credit_account_id) AS credit_account_id,
       coalesce(nullif(s.ledger, 0), a.ledger) AS ledger, coalesce(nullif(s.code, 0), a.code) AS code,
       CASE WHEN s.word IS NULL AND a.verdict = 0 THEN a.amount ELSE s.amount END AS amount,
       s.home, s.other_partition,
       CASE WHEN s.word = 0 AND (a.place IS NOT NULL OR s.kind NOT IN ('void', 'expire')) THEN 'settled'
            WHEN s.word > 0 THEN 'refused' WHEN a.verdict = 0 THEN 'arrived' ELSE 'under way' END AS state,
       s.time AS home_time, s.log_offset AS home_offset,
       a.time AS arrival_time, a.log_offset AS arrival_offset
  FROM (SELECT id, kind::text, debit_account_id, credit_account_id, ledger, code, amount, partition AS home,
               other_partition, 0::smallint AS word, time, log_offset, prepared_offset AS place, pending_id
          FROM transfers WHERE other_partition IS NOT NULL
        UNION ALL
        SELECT id, CASE get_byte(body, 118) & 14 WHEN 2 THEN 'pending' WHEN 4 THEN 'post' ELSE 'transfer' END,
               debit_account_id, credit_account_id,
               get_byte(body, 112) + (get_byte(body, 113) << 8) + (get_byte(body, 114) << 16)
               + (get_byte(body, 115)::bigint << 24),
               get_byte(body, 116) + (get_byte(body, 117) << 8), amount, partition,
               other_partition, verdict, time, log_offset, prepared_offset, null::uuid
          FROM refused_events WHERE other_partition IS NOT NULL
        UNION ALL
        SELECT id, CASE get_byte(body, 118) & 14 WHEN 2 THEN 'pending' WHEN 4 THEN 'post' ELSE 'transfer' END,
               debit_account_id, credit_account_id, ledger, code, amount, partition,
               other_partition, null, time, log_offset, log_offset, null
          FROM under_way
        UNION ALL
        -- Home is not projected so far.
        SELECT e.id, e.kind, e.debit_account_id, e.credit_account_id, e.ledger, e.code, e.amount, e.home,
               e.partition, null, null, null, e.place, e.pending_id
          FROM arrivals e JOIN positions p ON p.partition = e.home AND p.next_offset <= e.place) AS s
  LEFT JOIN arrivals a ON a.partition = s.other_partition AND a.home = s.home AND a.place = s.place;
COMMENT ON VIEW spanning_transfers IS
    'Transfers between partitions, reservations and their ends, with both sides of each: one row for each.';
COMMENT ON COLUMN spanning_transfers.id IS
    'Id of the transfer; null for an expiry, and for a voiding that home has not told yet.';
COMMENT ON COLUMN spanning_transfers.pending_id IS
    'Reservation that it ends; else null, and for a posting that is under way or refused.';
COMMENT ON COLUMN spanning_transfers.kind IS 'Effect, as in table transfers.';
COMMENT ON COLUMN spanning_transfers.debit_account_id IS 'Account that it comes from.';
COMMENT ON COLUMN spanning_transfers.credit_account_id IS 'Account that it is meant for.';
COMMENT ON COLUMN spanning_transfers.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN spanning_transfers.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN spanning_transfers.amount IS
    'Amount in minor units: moved, reserved or released; as it was sent if refused.';
COMMENT ON COLUMN spanning_transfers.home IS 'Partition of the debit account.';
COMMENT ON COLUMN spanning_transfers.other_partition IS 'Partition of the credit account, which has the last word.';
COMMENT ON COLUMN spanning_transfers.state IS
    'Under way: prepared at home, or ended there. Arrived: decided at the other partition, and home''s part is not here yet. Settled: done at both. Refused: done at none.';
COMMENT ON COLUMN spanning_transfers.home_time IS
    'Log time at home of its word, or while it has none, of the record that prepared it; null if home is not projected so far.';
COMMENT ON COLUMN spanning_transfers.home_offset IS 'Offset of that record.';
COMMENT ON COLUMN spanning_transfers.arrival_time IS 'Log time of its arrival; null while that is not here.';
COMMENT ON COLUMN spanning_transfers.arrival_offset IS 'Offset of its arrival in the other partition.';
