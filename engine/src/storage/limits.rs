//! Every bound of the log, with its unit. Those of [`super::config::LogConfig`] are its defaults.

/// Default most flushes in flight. More than eight gain nothing on this class of device.
pub const FLUSH_INFLIGHT_MAX: usize = 4;
/// Default size past which a flush takes no further entry, in bytes.
pub const FLUSH_BYTES_MAX: usize = 4 << 20;
/// Default most bytes that wait to be written.
pub const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Default largest flush ahead of which zeros are written, in bytes. With larger ones the zeros take
/// more bandwidth from the flushes than the changes of metadata would that they spare.
pub const ZERO_AHEAD_FLUSH_BYTES_MAX: usize = 64 << 10;
/// Default most sealed segments that are kept open for readers.
pub const OPEN_SEGMENTS_MAX: usize = 16;
/// Default most marks of sealed segments that are kept in memory: 24 bytes for each 64 KiB of log at least,
/// so 24 MiB for the newest 64 GiB.
pub const MARKS_MAX: usize = 1 << 20;
/// Larger entries are not read whole for one of their records.
pub const WHOLE_ENTRY_BYTES_MAX: usize = 64 << 10;
/// Segments that one look-up of many records reads at once.
pub const LOOKUP_SEGMENTS_MAX: usize = 16;
/// Reads that one look-up of many records has in flight, in all those segments together.
pub const LOOKUP_READS_MAX: usize = 64;
/// Bytes of opaque records that one look-up of many records returns.
pub const LOOKUP_OPAQUE_BYTES_MAX: usize = 16 << 20;
/// Most bytes read from disk at once for a reader, beyond an entry that is larger.
pub const READ_BYTES_MAX: usize = 1 << 20;
/// Other members of a group whose progress is remembered on disk: as many as fit in a block.
pub const REACHED_NODES_MAX: usize = 253;
/// Bytes that are read at once when a segment is read again for rot.
pub const SCRUB_READ_BYTES: usize = 256 << 10;
/// Most bytes that wait to be taken; past it all of them are dropped.
pub const TAP_BYTES_MAX: usize = 16 << 20;
/// Chunks of a snapshot that are read at once, while those before them are taken.
pub const SNAPSHOT_READ_BYTES: u64 = 8 * super::layout::SNAPSHOT_CHUNK_BYTES as u64;
