-- Version 1: one row for every record of the log, and the accounts and reservations that result.
-- Run with search_path set to the projector's schema. Tables are partitioned by partition of the log;
-- keys and indexes are created for each partition (partition.sql).

CREATE TABLE log (
    cluster    uuid PRIMARY KEY,
    partitions integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE log IS 'The log that this schema is derived from: one row.';
COMMENT ON COLUMN log.cluster IS 'Id of the walengine cluster; part of every token.';
COMMENT ON COLUMN log.partitions IS 'Number of partitions of the log, which are numbered from 0.';
COMMENT ON COLUMN log.started_at IS 'When the projector first wrote here.';

CREATE TABLE positions (
    partition   integer PRIMARY KEY,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    entry_index bigint NOT NULL,
    chain_hash  bytea NOT NULL CHECK (length(chain_hash) = 32),
    log_time    timestamptz,
    written_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);
COMMENT ON TABLE positions IS
    'How far each partition is projected: all other tables hold exactly the records below next_offset. Updated in the same transaction as they are.';
COMMENT ON COLUMN positions.partition IS 'Partition of the log.';
COMMENT ON COLUMN positions.next_offset IS 'Offset of the first record that is not here yet.';
COMMENT ON COLUMN positions.entry_index IS 'Raft index of the newest projected entry that holds records.';
COMMENT ON COLUMN positions.chain_hash IS 'Chain hash of that entry: logs with the same hash have the same history up to it.';
COMMENT ON COLUMN positions.log_time IS 'Log time of the newest projected record; null before the first.';
COMMENT ON COLUMN positions.written_at IS 'When the projector wrote the row, by the clock of this server.';

CREATE TABLE verdicts (
    number smallint PRIMARY KEY,
    name   text NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE verdicts IS 'Meaning of the numbers of verdicts.';
COMMENT ON COLUMN verdicts.number IS 'Number in the log: 0 is accepted, 40 and above are refused.';
COMMENT ON COLUMN verdicts.name IS 'Name for programs.';
COMMENT ON COLUMN verdicts.reason IS 'Explanation for people.';

CREATE TABLE accounts (
    id              uuid NOT NULL,
    log_offset      bigint NOT NULL,
    time            timestamptz NOT NULL,
    version         bigint NOT NULL,
    ledger          bigint NOT NULL,
    partition       integer NOT NULL,
    code            integer NOT NULL,
    debits_must_not_exceed_credits boolean NOT NULL,
    credits_must_not_exceed_debits boolean NOT NULL,
    closed          boolean NOT NULL,
    debits_pending  numeric(39, 0) NOT NULL,
    debits_posted   numeric(39, 0) NOT NULL,
    credits_pending numeric(39, 0) NOT NULL,
    credits_posted  numeric(39, 0) NOT NULL,
    user_data_128   uuid,
    user_data_64    numeric(20, 0)
) PARTITION BY LIST (partition);
COMMENT ON TABLE accounts IS 'Accounts with their balances, as of positions.next_offset.';
COMMENT ON COLUMN accounts.id IS 'Id; its upper 32 bits are the book.';
COMMENT ON COLUMN accounts.log_offset IS 'Offset of the record that created it.';
COMMENT ON COLUMN accounts.time IS 'Log time of its creation, truncated to microseconds.';
COMMENT ON COLUMN accounts.version IS 'Number of changes since its creation, as guards count them.';
COMMENT ON COLUMN accounts.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN accounts.partition IS 'Partition of the log that holds it.';
COMMENT ON COLUMN accounts.code IS 'Kind of account, defined by the user.';
COMMENT ON COLUMN accounts.debits_must_not_exceed_credits IS 'Limit: debits_pending + debits_posted <= credits_posted.';
COMMENT ON COLUMN accounts.credits_must_not_exceed_debits IS 'Limit: credits_pending + credits_posted <= debits_posted.';
COMMENT ON COLUMN accounts.closed IS 'Whether it is closed to new transfers.';
COMMENT ON COLUMN accounts.debits_pending IS 'Reserved by pending transfers from this account, in minor units.';
COMMENT ON COLUMN accounts.debits_posted IS 'Moved out of this account, in minor units.';
COMMENT ON COLUMN accounts.credits_pending IS 'Reserved by pending transfers to this account, in minor units.';
COMMENT ON COLUMN accounts.credits_posted IS 'Moved into this account, in minor units.';
COMMENT ON COLUMN accounts.user_data_128 IS 'User data; null if 0.';
COMMENT ON COLUMN accounts.user_data_64 IS 'User data; null if 0.';

CREATE TABLE transfers (
    id                uuid,
    debit_account_id  uuid NOT NULL,
    credit_account_id uuid NOT NULL,
    log_offset        bigint NOT NULL,
    time              timestamptz NOT NULL,
    ledger            bigint NOT NULL,
    partition         integer NOT NULL,
    code              integer NOT NULL,
    kind              transfer_kind NOT NULL,
    flags             integer NOT NULL,
    amount            numeric(39, 0) NOT NULL,
    amount_asked      numeric(39, 0),
    pending_id        uuid,
    timeout_seconds   bigint,
    user_data_128     uuid,
    user_data_64      numeric(20, 0),
    user_data_32      bigint
) PARTITION BY LIST (partition);
COMMENT ON TABLE transfers IS
    'Every accepted transfer, reservation, posting, voiding and expiry: one row for each, never updated. Table reservations has the state of reservations.';
COMMENT ON COLUMN transfers.id IS 'Id; null for an expiry, which has none.';
COMMENT ON COLUMN transfers.debit_account_id IS 'Account whose debits changed.';
COMMENT ON COLUMN transfers.credit_account_id IS 'Account whose credits changed.';
COMMENT ON COLUMN transfers.log_offset IS 'Offset of its record: the order of events in the partition.';
COMMENT ON COLUMN transfers.time IS 'Log time, truncated to microseconds; log_offset gives the order.';
COMMENT ON COLUMN transfers.ledger IS 'Ledger of both accounts: asset and scale.';
COMMENT ON COLUMN transfers.partition IS 'Partition of the log.';
COMMENT ON COLUMN transfers.code IS 'Reason, defined by the user; for a posting, voiding or expiry that of the pending transfer.';
COMMENT ON COLUMN transfers.kind IS 'Effect. Kinds transfer and post move money.';
COMMENT ON COLUMN transfers.flags IS 'Flags in the log: 1 linked, 2 pending, 4 post, 8 void, 16 balancing debit, 32 balancing credit.';
COMMENT ON COLUMN transfers.amount IS 'Amount in minor units that was moved, reserved or, by a voiding or expiry, released.';
COMMENT ON COLUMN transfers.amount_asked IS 'Upper limit of a balancing transfer; null for others.';
COMMENT ON COLUMN transfers.pending_id IS 'Reservation that is posted, voided or expired; else null.';
COMMENT ON COLUMN transfers.timeout_seconds IS 'How long a pending transfer reserves; null if without limit.';
COMMENT ON COLUMN transfers.user_data_128 IS 'User data; null if 0.';
COMMENT ON COLUMN transfers.user_data_64 IS 'User data; null if 0.';
COMMENT ON COLUMN transfers.user_data_32 IS 'User data; null if 0.';

CREATE TABLE reservations (
    id                uuid NOT NULL,
    debit_account_id  uuid NOT NULL,
    credit_account_id uuid NOT NULL,
    log_offset        bigint NOT NULL,
    time              timestamptz NOT NULL,
    expires_at        timestamptz,
    ledger            bigint NOT NULL,
    resolved_offset   bigint,
    resolved_at       timestamptz,
    partition         integer NOT NULL,
    code              integer NOT NULL,
    state             reservation_state NOT NULL,
    amount            numeric(39, 0) NOT NULL,
    amount_posted     numeric(39, 0) NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE reservations IS 'State of every pending transfer.';
COMMENT ON COLUMN reservations.id IS 'Id of the pending transfer.';
COMMENT ON COLUMN reservations.debit_account_id IS 'Account that the amount is reserved from.';
COMMENT ON COLUMN reservations.credit_account_id IS 'Account that the amount is reserved for.';
COMMENT ON COLUMN reservations.log_offset IS 'Offset of the record that reserved.';
COMMENT ON COLUMN reservations.time IS 'Log time of that record, truncated to microseconds.';
COMMENT ON COLUMN reservations.expires_at IS 'When it expires; null if never.';
COMMENT ON COLUMN reservations.ledger IS 'Ledger: asset and scale.';
COMMENT ON COLUMN reservations.resolved_offset IS 'Offset of the record that ended it; null while pending.';
COMMENT ON COLUMN reservations.resolved_at IS 'Log time of that record; null while pending.';
COMMENT ON COLUMN reservations.partition IS 'Partition of the log.';
COMMENT ON COLUMN reservations.code IS 'Reason, defined by the user.';
COMMENT ON COLUMN reservations.state IS 'Pending until it is posted, voided or expired.';
COMMENT ON COLUMN reservations.amount IS 'Reserved amount in minor units.';
COMMENT ON COLUMN reservations.amount_posted IS 'Amount of it that was moved in the end.';

CREATE TABLE account_events (
    id           uuid NOT NULL,
    account_id   uuid NOT NULL,
    log_offset   bigint NOT NULL,
    time         timestamptz NOT NULL,
    partition    integer NOT NULL,
    flags        integer NOT NULL,
    kind         text NOT NULL,
    version      numeric(20, 0),
    available    numeric(39, 0)
) PARTITION BY LIST (partition);
COMMENT ON TABLE account_events IS 'Every accepted event that moves no money: guards that held, closings and reopenings.';
COMMENT ON COLUMN account_events.id IS 'Id of the event.';
COMMENT ON COLUMN account_events.account_id IS 'Account that was checked, closed or reopened.';
COMMENT ON COLUMN account_events.log_offset IS 'Offset of its record.';
COMMENT ON COLUMN account_events.time IS 'Log time, truncated to microseconds.';
COMMENT ON COLUMN account_events.partition IS 'Partition of the log.';
COMMENT ON COLUMN account_events.flags IS 'Flags in the log; see FORMAT.md, section 3.';
COMMENT ON COLUMN account_events.kind IS 'Kind of event: guard, close or reopen.';
COMMENT ON COLUMN account_events.version IS 'Version that a guard required; null for others.';
COMMENT ON COLUMN account_events.available IS 'Available amount that a guard required; null for others.';

CREATE TABLE refused_events (
    id                uuid,
    log_offset        bigint NOT NULL,
    time              timestamptz NOT NULL,
    partition         integer NOT NULL,
    verdict           smallint NOT NULL,
    kind              text NOT NULL,
    name              text NOT NULL,
    reason            text NOT NULL,
    debit_account_id  uuid,
    credit_account_id uuid,
    amount            numeric(39, 0),
    body              bytea NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE refused_events IS 'Every refused event, with the reason. It changed nothing, and a repeat gets the same verdict.';
COMMENT ON COLUMN refused_events.id IS 'Id of the event; for a refused account, the id of the account.';
COMMENT ON COLUMN refused_events.log_offset IS 'Offset of its record.';
COMMENT ON COLUMN refused_events.time IS 'Log time, truncated to microseconds.';
COMMENT ON COLUMN refused_events.partition IS 'Partition of the log.';
COMMENT ON COLUMN refused_events.verdict IS 'Number of the verdict; see table verdicts.';
COMMENT ON COLUMN refused_events.kind IS 'Kind of event: transfer, account, guard, close, expire or record.';
COMMENT ON COLUMN refused_events.name IS 'Name of the verdict, for programs.';
COMMENT ON COLUMN refused_events.reason IS 'Reason for people.';
COMMENT ON COLUMN refused_events.debit_account_id IS 'As it was sent, for a transfer; else null.';
COMMENT ON COLUMN refused_events.credit_account_id IS 'As it was sent, for a transfer; else null.';
COMMENT ON COLUMN refused_events.amount IS 'As it was sent, for a transfer; else null.';
COMMENT ON COLUMN refused_events.body IS 'The event as it was sent: 128 bytes, see FORMAT.md, section 3; for an opaque record, its bytes.';

CREATE TABLE opaque_records (
    id         uuid NOT NULL,
    log_offset bigint NOT NULL,
    time       timestamptz NOT NULL,
    partition  integer NOT NULL,
    data       bytea NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE opaque_records IS 'Records whose bytes walengine does not interpret.';
COMMENT ON COLUMN opaque_records.id IS 'Id.';
COMMENT ON COLUMN opaque_records.log_offset IS 'Offset of the record.';
COMMENT ON COLUMN opaque_records.time IS 'Log time, truncated to microseconds.';
COMMENT ON COLUMN opaque_records.partition IS 'Partition of the log.';
COMMENT ON COLUMN opaque_records.data IS 'Bytes of the record.';
