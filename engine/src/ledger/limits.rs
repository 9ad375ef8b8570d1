//! Every bound of the ledger: what a request, a log or a table can come to.

use walengine_net::model::Timestamp;

/// Largest opaque record in bytes: the protocol's limit, also for records that arrive in another
/// way.
pub const RECORD_BYTES_MAX: u32 = walengine_net::limits::RECORD_BYTES_MAX as u32;
/// Latest log time in nanoseconds, in the year 2262. A later clock counts as this.
pub const TIMESTAMP_MAX: Timestamp = Timestamp(u64::MAX / 2);
/// Offsets are kept in 48 bits: 2.8e14 records, nine years at a million a second.
pub const OFFSET_MAX: u64 = (1 << 48) - 1;
/// The directory's prefix ends above the bits that tag and group use.
pub const DEPTH_MAX: u32 = 24;
/// Largest part in blocks (24,576 slots), except where a part may not split.
pub const PART_BLOCKS_MAX: usize = 96;
/// Facts about older ids that are kept at once: enough for the largest requests of two connections.
pub const FACTS_MAX: usize = 64 << 10;
/// All facts that an entry can need are kept at once: three for each event of two requests.
const _: () = assert!(6 * walengine_net::limits::EVENTS_MAX < FACTS_MAX);
/// Slots of a generation of the newest ids: its index has half a MiB, which the processor's caches hold.
pub const GENERATION_SLOTS: usize = (1 << 16) - 2;
/// A joint index of more than four MiB does not keep its memory when nothing is in it any more.
pub const KEPT_CELLS_MAX: usize = 1 << 19;
/// Of the newest generations, each has an index of its own.
pub const OWN_INDEXES_MAX: usize = 4;
