//! Every limit of the protocol, and how the limits relate. Their values are part of the protocol.

use crate::entry;
use crate::model::{EVENT_BYTES, NAME_BYTES_MAX};

/// Largest body of a frame in bytes, except pages of the log.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest body in bytes of a frame with a page of the log, or with entries to import: at least one
/// whole entry fits.
pub const PAGE_BODY_BYTES_MAX: usize = 2 * BODY_BYTES_MAX + 4096;
/// Events in one batch.
pub const EVENTS_MAX: usize = 8190;
/// Tokens in one answer: as many as there may be partitions.
pub const TOKENS_MAX: usize = CLUSTER_GROUPS_MAX;
/// Opaque records in one batch.
pub const RECORDS_MAX: usize = 8190;
/// Bytes of all opaque records of one batch.
pub const RECORDS_BLOB_BYTES_MAX: usize = 1_040_000;
/// Largest opaque record in bytes.
pub const RECORD_BYTES_MAX: usize = RECORDS_BLOB_BYTES_MAX;
/// Entries in one request that imports some.
pub const IMPORT_ENTRIES_MAX: usize = EVENTS_MAX;
/// Ids in one look-up of accounts or transfers.
pub const LOOKUP_IDS_MAX: usize = 4096;
/// Accounts on one page of a listing.
pub const LIST_ACCOUNTS_MAX: usize = 4096;
/// Open reservations on one page of a listing.
pub const LIST_RESERVATIONS_MAX: usize = 4096;
/// Ids in one look-up of names, and names on one page.
pub const LOOKUP_NAMES_MAX: usize = 4096;
/// Described ledgers.
pub const LEDGERS_MAX: usize = 4096;
/// Ids in one request for verdicts: those of a whole batch.
pub const STATUS_IDS_MAX: usize = EVENTS_MAX;
/// Bytes of a client's name.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;
/// Bytes of a server's version, a leader's address and the like.
pub const LABEL_BYTES_MAX: usize = 256;
/// Bytes of an error's text.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;
/// Rows in a server's status.
pub const STATUS_ROWS_MAX: usize = 4096;
/// Nodes in an answer about the cluster.
pub const CLUSTER_NODES_MAX: usize = 256;
/// Partitions in an answer about the cluster.
pub const CLUSTER_GROUPS_MAX: usize = 1024;
/// Replicas in an answer about the cluster.
pub const CLUSTER_REPLICAS_MAX: usize = 16 * CLUSTER_GROUPS_MAX;
/// Unanswered requests on one connection. Past it the server answers `Busy`.
pub const INFLIGHT_MAX: usize = 1024;
/// Subscriptions on one connection.
pub const SUBSCRIPTIONS_MAX: usize = 16;
/// Unused credit of a subscription in bytes.
pub const CREDIT_BYTES_MAX: u64 = 1 << 30;
/// Longest deadline in milliseconds; a server cuts a longer one to it.
pub const DEADLINE_MILLIS_MAX: u32 = 600_000;

/// Root of a body with one list: a pointer and a length.
const LIST_ROOT_BYTES: usize = 8;
/// Head of an opaque record in a request: id and length.
const APPEND_HEAD_BYTES: usize = 20;
/// Place in the list, verdict, two marks, offset, timestamp, event, resolution.
pub(crate) const EVENT_STATE_BYTES: usize = 4 + 1 + 1 + 8 + 8 + EVENT_BYTES + 64;
/// Counts, verdict, mark, offset, timestamp of a run of outcomes.
pub(crate) const RUN_BYTES: usize = 4 + 1 + 1 + 8 + 8;
/// Three ids and an amount, offset, expiry, ledger, code, a mark.
const RESERVATION_ROW_BYTES: usize = 4 * 16 + 2 * 8 + 4 + 2 + 1;
/// A node in an answer about the cluster, without its three texts.
const NODE_ROW_BYTES: usize = 8 + 1 + 2 + 8 + 8 + 3 * LIST_ROOT_BYTES;
/// A group, and a replica, in an answer about the cluster.
const GROUP_ROW_BYTES: usize = 2 + 8 + 8 + 8 + 1;

const _: () = {
    assert!(EVENTS_MAX * EVENT_BYTES + LIST_ROOT_BYTES <= BODY_BYTES_MAX);
    assert!((EVENTS_MAX + 2) * EVENT_BYTES + LIST_ROOT_BYTES > BODY_BYTES_MAX);
    assert!(1000 * (1024 + APPEND_HEAD_BYTES) + 3 * LIST_ROOT_BYTES <= BODY_BYTES_MAX);
    assert!(1000 * 1024 <= RECORDS_BLOB_BYTES_MAX);
    assert!(RECORDS_BLOB_BYTES_MAX + APPEND_HEAD_BYTES + 32 <= BODY_BYTES_MAX);
    assert!(EVENTS_MAX * RUN_BYTES + TOKENS_MAX * 10 + 32 <= BODY_BYTES_MAX);
    assert!(RECORDS_MAX <= EVENTS_MAX);
    assert!(LOOKUP_IDS_MAX * EVENT_STATE_BYTES + 32 <= BODY_BYTES_MAX);
    assert!(LIST_ACCOUNTS_MAX * (EVENT_BYTES + 4) + 64 <= BODY_BYTES_MAX);
    assert!(LIST_RESERVATIONS_MAX * RESERVATION_ROW_BYTES + 64 <= BODY_BYTES_MAX);
    assert!(LOOKUP_NAMES_MAX * (16 + 4 + NAME_BYTES_MAX) + 128 <= BODY_BYTES_MAX);
    assert!(LEDGERS_MAX * (4 + 1 + NAME_BYTES_MAX) + 64 <= BODY_BYTES_MAX);
    assert!(STATUS_IDS_MAX * 16 + 32 <= BODY_BYTES_MAX);
    assert!(STATUS_ROWS_MAX * 40 <= BODY_BYTES_MAX);
    assert!(
        CLUSTER_NODES_MAX * (NODE_ROW_BYTES + 3 * LABEL_BYTES_MAX)
            + (CLUSTER_GROUPS_MAX + CLUSTER_REPLICAS_MAX) * GROUP_ROW_BYTES
            + 64
            <= BODY_BYTES_MAX
    );
    assert!(entry::HEADER_BYTES + entry::BODY_BYTES_MAX + 64 <= PAGE_BODY_BYTES_MAX);
};
/// Longest time for which a partition exchanges nothing with others when it is asked to, in milliseconds.
pub const HOLD_MILLIS_MAX: u32 = 5000;
