//! Every bound of the projector, and how the bounds relate. All are for one partition.

use std::time::Duration;

use walengine_net::limits::PAGE_BODY_BYTES_MAX;

/// Bytes of log pages that were received and not yet encoded. With the credit of the client's
/// subscription this bounds what waits in front of PostgreSQL.
pub const FEED_BYTES_MAX: usize = 8 << 20;
/// Pages in that queue, however small.
pub const FEED_PAGES_MAX: usize = 1024;
/// Bytes of rows in one transaction; the entry that passes it is the last. There are at most two such
/// batches: one in a transaction, one being filled. Large, because every account changes once in a
/// transaction: with 10,000 accounts, 8 MiB came to 73 % of the rows/s of a bare COPY.
pub const BATCH_BYTES_MAX: usize = 24 << 20;
/// Records in one transaction; the entry that passes it is the last.
pub const BATCH_RECORDS_MAX: u64 = 262_144;
/// Bytes of COPY data in one message to PostgreSQL: it works on one while it receives the next.
pub const COPY_CHUNK_BYTES: usize = 128 << 10;
/// First pause after a failure, and the longest; each is twice the one before, less some chance.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// See [`BACKOFF_MIN`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a second projector looks whether the first is gone.
pub const LOCK_RETRY: Duration = Duration::from_millis(500);
/// How long a statement may take before the connection is given up. Generous: a server under load.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);
/// How long connecting to PostgreSQL may take unless the settings say otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is asked for a sign of life after this time, and then this often.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// A connection whose other side takes nothing and gives no sign of life for this long is given up:
/// by the projector, and by PostgreSQL, which holds a writer's lock until then.
pub const HOST_SILENT_MAX: Duration = Duration::from_secs(30);
/// How often the end of the log is asked for, to know the lag.
pub const LAG_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a page when the log is read for an audit.
pub const AUDIT_PAGE_BYTES: usize = 1 << 20;
/// Differences that an audit names before it stops.
pub const DIFFERENCES_MAX: usize = 10;

const _: () = {
    assert!(FEED_BYTES_MAX >= 2 * PAGE_BODY_BYTES_MAX, "a page must fit while another is encoded");
    assert!(BATCH_BYTES_MAX < 1 << 29, "PostgreSQL takes messages of 1 GiB");
};
