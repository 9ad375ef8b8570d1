//! What can go wrong with a simulated disk besides power loss. All of it is off by default.

use super::disk::OpKind;

/// Switches of one disk; set them with `SimDisk::set_faults`, at any time.
#[derive(Clone, Debug)]
pub struct Faults {
    /// `sync` and `write_durable` answer `Ok` and make nothing durable: the planted bug
    /// "fdatasync removed".
    pub lying: bool,
    /// Power loss may leave random bytes in a sector that was about to be written.
    pub garbage: bool,
    /// A file whose length was never made durable may come back shorter, even empty.
    pub lengths_vanish: bool,
    /// Bytes that the disk holds; creating or growing past it is `ENOSPC`.
    pub capacity_bytes: u64,
    /// Operations take this many times as long.
    pub latency_times: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            lying: false,
            garbage: true,
            lengths_vanish: true,
            capacity_bytes: u64::MAX,
            latency_times: 1,
        }
    }
}

/// Operations that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpClass {
    /// `write` and `write_durable`.
    Writes,
    /// `sync` and `sync_dir`.
    Syncs,
    /// `write`, `write_durable`, `sync` and `sync_dir`.
    WritesAndSyncs,
    /// `read`.
    Reads,
    /// Every operation, of names too.
    All,
}

impl OpClass {
    /// Every class.
    pub const ALL: [Self; 5] =
        [Self::Writes, Self::Syncs, Self::WritesAndSyncs, Self::Reads, Self::All];

    /// An operation of this kind counts.
    pub fn has(self, kind: OpKind) -> bool {
        let write = matches!(kind, OpKind::Write | OpKind::WriteDurable);
        let sync = matches!(kind, OpKind::Sync | OpKind::SyncDir);
        match self {
            Self::Writes => write,
            Self::Syncs => sync,
            Self::WritesAndSyncs => write || sync,
            Self::Reads => kind == OpKind::Read,
            Self::All => true,
        }
    }
}

/// What happens to the one operation that a plan names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `EIO`. Of a write, any sectors may have landed; what a failed sync covered is never made
    /// durable by a later sync, as Linux has it.
    Eio,
    /// `ENOSPC`, with the same consequences.
    Enospc,
    /// Only a part is transferred, which is reported as an error.
    Short,
    /// A write goes nowhere and answers `Ok`.
    Lose,
    /// A write lands on another block of the same file and answers `Ok`.
    Misdirect,
    /// One bit of a write or read flips on the way and it answers `Ok`.
    Flip,
}
