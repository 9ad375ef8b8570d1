-- Version 1: one row for every record of the log, and what the records come to.
-- Run with search_path set to the projector's schema. Tables are split by partition of the log;
-- keys and indexes are made with each partition (partition.sql).

CREATE TYPE transfer_kind AS ENUM ('transfer', 'pending', 'post', 'void', 'expire');
COMMENT ON TYPE transfer_kind IS
    'What a record did: moved money, reserved it, or ended a reservation by posting, voiding or expiry.';

CREATE TYPE reservation_state AS ENUM ('pending', 'posted', 'voided', 'expired');
COMMENT ON TYPE reservation_state IS 'What has become of a pending transfer.';

CREATE TABLE log (
    cluster    uuid PRIMARY KEY,
    partitions integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE log IS 'The log that this schema is derived from: one row.';
COMMENT ON COLUMN log.cluster IS 'Id of the walengine cluster; stands in every token.';
COMMENT ON COLUMN log.partitions IS 'Partitions of the log, numbered from 0.';
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
    'How far each partition is projected: all other tables hold exactly the records below next_offset. Changed in the same transaction as they are.';
COMMENT ON COLUMN positions.partition IS 'Partition of the log.';
COMMENT ON COLUMN positions.next_offset IS 'Offset of the first record that is not here yet.';
COMMENT ON COLUMN positions.entry_index IS 'Raft index of the newest projected entry that holds records.';
COMMENT ON COLUMN positions.chain_hash IS 'Chain hash of that entry: two logs with the same hash have the same history up to it.';
COMMENT ON COLUMN positions.log_time IS 'Log time of the newest projected record; null before the first.';
COMMENT ON COLUMN positions.written_at IS 'When the projector wrote it, by the clock of this server.';

CREATE TABLE verdicts (
    number smallint PRIMARY KEY,
    name   text NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE verdicts IS 'What the numbers of verdicts mean.';
COMMENT ON COLUMN verdicts.number IS 'As in the log: 0 accepted, 40 and above refused.';
COMMENT ON COLUMN verdicts.name IS 'For programs.';
COMMENT ON COLUMN verdicts.reason IS 'For people.';

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
COMMENT ON COLUMN accounts.id IS 'Name; its upper 32 bits are the book.';
COMMENT ON COLUMN accounts.log_offset IS 'Record that created it.';
COMMENT ON COLUMN accounts.time IS 'Log time of its creation, cut to microseconds.';
COMMENT ON COLUMN accounts.version IS 'Changes since its creation, as guards count them.';
COMMENT ON COLUMN accounts.ledger IS 'Asset and scale.';
COMMENT ON COLUMN accounts.partition IS 'Partition of the log that it lives on.';
COMMENT ON COLUMN accounts.code IS 'Kind of account; the user''s own.';
COMMENT ON COLUMN accounts.debits_must_not_exceed_credits IS 'Limit: debits_pending + debits_posted <= credits_posted.';
COMMENT ON COLUMN accounts.credits_must_not_exceed_debits IS 'Limit: credits_pending + credits_posted <= debits_posted.';
COMMENT ON COLUMN accounts.closed IS 'Takes no new transfers.';
COMMENT ON COLUMN accounts.debits_pending IS 'Reserved by pending transfers from this account, in minor units.';
COMMENT ON COLUMN accounts.debits_posted IS 'Moved out of this account, in minor units.';
COMMENT ON COLUMN accounts.credits_pending IS 'Reserved by pending transfers to this account, in minor units.';
COMMENT ON COLUMN accounts.credits_posted IS 'Moved into this account, in minor units.';
COMMENT ON COLUMN accounts.user_data_128 IS 'The user''s own; null if 0.';
COMMENT ON COLUMN accounts.user_data_64 IS 'The user''s own; null if 0.';

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
    'Every accepted transfer, reservation, posting, voiding and expiry: one row for each, never changed. What has become of a reservation: table reservations.';
COMMENT ON COLUMN transfers.id IS 'Name; null for an expiry, which has none.';
COMMENT ON COLUMN transfers.debit_account_id IS 'Account whose debits changed.';
COMMENT ON COLUMN transfers.credit_account_id IS 'Account whose credits changed.';
COMMENT ON COLUMN transfers.log_offset IS 'Its record: the order in which things happened in the partition.';
COMMENT ON COLUMN transfers.time IS 'Log time, cut to microseconds; log_offset tells the order.';
COMMENT ON COLUMN transfers.ledger IS 'Asset and scale of both accounts.';
COMMENT ON COLUMN transfers.partition IS 'Partition of the log.';
COMMENT ON COLUMN transfers.code IS 'Reason; the user''s own. Of a posting, voiding or expiry: that of the pending transfer.';
COMMENT ON COLUMN transfers.kind IS 'What it did. Kinds transfer and post move money.';
COMMENT ON COLUMN transfers.flags IS 'As in the log: 1 linked, 2 pending, 4 post, 8 void, 16 balancing debit, 32 balancing credit.';
COMMENT ON COLUMN transfers.amount IS 'Minor units that were moved, reserved or, by a voiding or expiry, released.';
COMMENT ON COLUMN transfers.amount_asked IS 'Upper limit that a balancing transfer was given; null for others.';
COMMENT ON COLUMN transfers.pending_id IS 'The reservation that is posted, voided or expired; else null.';
COMMENT ON COLUMN transfers.timeout_seconds IS 'How long a pending transfer reserves; null without limit.';
COMMENT ON COLUMN transfers.user_data_128 IS 'The user''s own; null if 0.';
COMMENT ON COLUMN transfers.user_data_64 IS 'The user''s own; null if 0.';
COMMENT ON COLUMN transfers.user_data_32 IS 'The user''s own; null if 0.';

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
COMMENT ON COLUMN reservations.id IS 'The pending transfer.';
COMMENT ON COLUMN reservations.debit_account_id IS 'Account that the amount is reserved from.';
COMMENT ON COLUMN reservations.credit_account_id IS 'Account that the amount is reserved for.';
COMMENT ON COLUMN reservations.log_offset IS 'Record that reserved.';
COMMENT ON COLUMN reservations.time IS 'Log time of that record, cut to microseconds.';
COMMENT ON COLUMN reservations.expires_at IS 'When it is due to expire; null: never.';
COMMENT ON COLUMN reservations.ledger IS 'Asset and scale.';
COMMENT ON COLUMN reservations.resolved_offset IS 'Record that ended it; null while pending.';
COMMENT ON COLUMN reservations.resolved_at IS 'Log time of that record; null while pending.';
COMMENT ON COLUMN reservations.partition IS 'Partition of the log.';
COMMENT ON COLUMN reservations.code IS 'Reason; the user''s own.';
COMMENT ON COLUMN reservations.state IS 'pending until it is posted, voided or expired.';
COMMENT ON COLUMN reservations.amount IS 'Minor units that were reserved.';
COMMENT ON COLUMN reservations.amount_posted IS 'What of it was moved in the end.';

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
COMMENT ON COLUMN account_events.id IS 'Name of the event.';
COMMENT ON COLUMN account_events.account_id IS 'Account that was looked at, closed or reopened.';
COMMENT ON COLUMN account_events.log_offset IS 'Its record.';
COMMENT ON COLUMN account_events.time IS 'Log time, cut to microseconds.';
COMMENT ON COLUMN account_events.partition IS 'Partition of the log.';
COMMENT ON COLUMN account_events.flags IS 'As in the log; FORMAT.md, section 3.';
COMMENT ON COLUMN account_events.kind IS 'guard, close or reopen.';
COMMENT ON COLUMN account_events.version IS 'Version that a guard asked for; null for others.';
COMMENT ON COLUMN account_events.available IS 'Amount that a guard asked to be available; null for others.';

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
COMMENT ON TABLE refused_events IS 'Every event that was refused, and why. It changed nothing, and a repeat gets the same verdict.';
COMMENT ON COLUMN refused_events.id IS 'Name of the event; of a refused account, the account''s.';
COMMENT ON COLUMN refused_events.log_offset IS 'Its record.';
COMMENT ON COLUMN refused_events.time IS 'Log time, cut to microseconds.';
COMMENT ON COLUMN refused_events.partition IS 'Partition of the log.';
COMMENT ON COLUMN refused_events.verdict IS 'Number of the verdict, as in table verdicts.';
COMMENT ON COLUMN refused_events.kind IS 'transfer, account, guard, close, expire or record.';
COMMENT ON COLUMN refused_events.name IS 'Name of the verdict, for programs.';
COMMENT ON COLUMN refused_events.reason IS 'The reason in words.';
COMMENT ON COLUMN refused_events.debit_account_id IS 'Of a transfer, as it was sent; else null.';
COMMENT ON COLUMN refused_events.credit_account_id IS 'Of a transfer, as it was sent; else null.';
COMMENT ON COLUMN refused_events.amount IS 'Of a transfer, as it was sent; else null.';
COMMENT ON COLUMN refused_events.body IS 'The event as it was sent: 128 bytes as in FORMAT.md, section 3; of an opaque record, its bytes.';

CREATE TABLE opaque_records (
    id         uuid NOT NULL,
    log_offset bigint NOT NULL,
    time       timestamptz NOT NULL,
    partition  integer NOT NULL,
    data       bytea NOT NULL
) PARTITION BY LIST (partition);
COMMENT ON TABLE opaque_records IS 'Records whose bytes walengine does not interpret.';
COMMENT ON COLUMN opaque_records.id IS 'Name.';
COMMENT ON COLUMN opaque_records.log_offset IS 'Its offset in the log.';
COMMENT ON COLUMN opaque_records.time IS 'Log time, cut to microseconds.';
COMMENT ON COLUMN opaque_records.partition IS 'Partition of the log.';
COMMENT ON COLUMN opaque_records.data IS 'Its bytes.';
