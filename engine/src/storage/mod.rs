//! What a shard keeps on disk: segments, hard state, snapshots. Layout: FORMAT.md.

pub mod disk;
