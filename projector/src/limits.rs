//! Every bound of the projector, and how the bounds relate. Queues and batches are of one
//! partition.

use std::time::Duration;

use walengine_net::limits::PAGE_BODY_BYTES_MAX;

/// Bytes of log pages that are received but not yet encoded. Together with the credit of the
/// client's subscription this bounds the memory in front of PostgreSQL.
pub const FEED_BYTES_MAX: usize = 8 << 20;
/// Pages in that queue, even if they are small.
pub const FEED_PAGES_MAX: usize = 1024;
/// Bytes of rows in one transaction; the entry that exceeds it is the last. There are at most two
/// such batches: one in a transaction, one being filled. Large, because every account is updated
/// once in a transaction: with 10,000 accounts, 8 MiB reached only 73 % of the rows/s of a bare
/// COPY.
pub const BATCH_BYTES_MAX: usize = 24 << 20;
/// Records in one transaction; the entry that exceeds it is the last.
pub const BATCH_RECORDS_MAX: u64 = 262_144;
/// Bytes of COPY data in one message: PostgreSQL works on one while it receives the next.
pub const COPY_CHUNK_BYTES: usize = 128 << 10;
/// Changes of an account after which the writer marks what it had moved. A question reads up to so many rows beside those of one
/// batch: 1,024 take about 1 ms.
pub const MARK_CHANGES: i64 = 1024;
/// Records after which all accounts are marked, at least. A question about all of them reads up to half as many records.
pub const MARK_RECORDS_MIN: u64 = 524_288;
/// The same, in times the number of accounts: so marks are at most an eighth of a row for each record.
pub const MARK_ACCOUNTS_TIMES: u64 = 8;
/// Records after which the projector looks whether a mark is due.
pub const MARK_LOOK_RECORDS: u64 = MARK_RECORDS_MIN / 4;
const _: () = assert!(MARK_LOOK_RECORDS > REBUILD_LAG_RECORDS_MAX);
/// First and longest pause after a failure. Each pause is twice the one before, minus a random
/// part.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// See [`BACKOFF_MIN`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a second projector tries to take over from the first.
pub const LOCK_RETRY: Duration = Duration::from_millis(500);
/// How long a statement may take before the connection is given up. Generous, for a server under
/// load.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);
/// How long connecting to PostgreSQL may take, unless the settings say otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Keepalive: a silent connection is probed after this time.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Keepalive: further probes follow at this interval.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// A connection whose peer acknowledges nothing for this long is given up, by the projector and by
/// PostgreSQL, which holds a writer's lock until then.
pub const HOST_SILENT_MAX: Duration = Duration::from_secs(30);
/// How often the end of the log is read, to know the lag.
pub const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How long a server of walengine may take to say how far its log reaches. After that it is gone.
pub const ENGINE_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often what is known of the log is noted in the database.
pub const NOTE_EVERY: Duration = Duration::from_secs(5);
/// How long a command looks for a server of walengine before it ends.
pub const COMMAND_CONNECTS_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a file with a password or a key.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
/// How long a statement may wait for a lock before it is tried again, on a new connection.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
/// A wait in PostgreSQL that lasts longer than this is told, with what it waits for.
pub const WAIT_TOLD_AFTER: Duration = Duration::from_secs(3);
/// How long a rebuild waits for each lock on tables that are in use, while it may hold others. Shorter
/// than PostgreSQL's `deadlock_timeout`, so that it is the rebuild that gives way and not a reader.
pub const SWAP_LOCK_WITHIN: Duration = Duration::from_millis(700);
/// How long a rebuild may take to catch up while it holds a lock that writers wait for.
pub const SWAP_CATCH_UP_WITHIN: Duration = Duration::from_secs(15);
/// Time between two attempts to lock those tables; others use them meanwhile.
pub const SWAP_RETRY_EVERY: Duration = Duration::from_secs(2);
/// How long a rebuild tries to put its tables in place before it ends. Run again, it goes on.
pub const SWAP_WITHIN: Duration = Duration::from_mins(2);
/// How many objects an error names.
pub const LISTED_MAX: usize = 12;
/// Time between two looks at a managed PostgreSQL that starts or stops.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long an audit tries to write down that it begins, and how it has ended.
pub const AUDIT_NOTED_WITHIN: Duration = Duration::from_secs(30);
/// Audits that table `audits` keeps; older ones go.
pub const AUDITS_KEPT_MAX: usize = 1_000;
/// Characters of an outcome in words that are kept with it.
pub const AUDIT_SAID_CHARS_MAX: usize = 4_000;
/// Differences that an audit reports for each table.
pub const DIFFERENCES_MAX: usize = 10;

/// Bytes of a value that an audit shows.
pub const SHOWN_BYTES_MAX: usize = 32;
/// A rebuild catches up a smaller lag than this while writers wait.
pub const REBUILD_LAG_RECORDS_MAX: u64 = 100_000;
/// A smaller lag than this is not shown as catching up.
pub const SHOWN_LAG_RECORDS_MIN: u64 = 50_000;
/// Time between two drawings of a progress bar.
pub const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of a schema's name: PostgreSQL's limit is 63, and a rebuild appends to it.
pub const SCHEMA_NAME_BYTES_MAX: usize = 40;
/// Bytes of the end of a managed PostgreSQL's log that an error is taken from.
pub const LOG_TAIL_BYTES_MAX: u64 = 8 << 10;
/// How long a managed PostgreSQL may take to start, including recovery, and to stop.
pub const MANAGED_WITHIN: Duration = Duration::from_mins(5);
/// Bytes of the head of a request for metrics.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a connection for metrics may last.
pub const HTTP_CONNECTION_WITHIN: Duration = Duration::from_secs(5);
/// Connections for metrics at a time; further ones wait in the listener's queue.
pub const HTTP_CONNECTIONS_MAX: usize = 16;

/// Longest path of a socket, minus the file name that the server chooses.
pub const SOCKET_PATH_MAX: usize = 107 - 18;
/// Number of such digits of 2^128 - 1.
pub const NUMERIC_DIGITS_MAX: usize = 10;

const _: () = {
    assert!(FEED_BYTES_MAX >= 2 * PAGE_BODY_BYTES_MAX, "a page fits while another is encoded");
    assert!(BATCH_BYTES_MAX < 1 << 29, "PostgreSQL takes messages of 1 GiB");
};
