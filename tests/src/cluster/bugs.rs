//! Bugs that a simulated cluster can have, to see that the simulation finds them.
//!
//! Each is played where the harness meets the engine: at the disk, in the configuration of openraft,
//! before a node opens its log, or in the client. No seam can play the last two, which stand in
//! `walengine::planted`.

use walengine::storage::layout::{BLOCK_BYTES, HardStateSlot};

use super::media;
use crate::checked_partition::dir;
use crate::sim::SimDisk;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A write to the log is answered while it is in a volatile cache only. At the disk.
    AcknowledgeBeforeFlush,
    /// A vote is kept in memory only. At the disk.
    VoteNotFlushed,
    /// A failed write is followed by a flush, and counts as durable if that one succeeds. At the
    /// disk.
    FlushRetried,
    /// What is read from a segment is believed whatever its checksum says. At the disk.
    ChecksumSkipped,
    /// openraft's default: a leader that restarts leads again in the same term. In the
    /// configuration.
    LeaderRestore,
    /// Recovery cuts the log at the first bad entry even if what follows was durable. Before a node
    /// opens its log.
    MidLogCut,
    /// A leader answers linearizable reads without asking whether it still leads. In the client.
    StaleLeaderRead,
    /// A snapshot's ids are forgotten while the ledger is restored from it. In the engine.
    #[cfg(feature = "planted")]
    DedupeForgotten,
    /// What was decided stays when leadership ends. In the engine.
    #[cfg(feature = "planted")]
    DecisionsNotTakenBack,
}

/// Plants the bug in what runs on this thread from now on, if it is one of the engine's.
#[cfg(feature = "planted")]
pub(super) fn plant_in_engine(bug: Option<Bug>) {
    use walengine::planted::{Planted, plant};
    plant(match bug {
        Some(Bug::DedupeForgotten) => Some(Planted::IdsForgotten),
        Some(Bug::DecisionsNotTakenBack) => Some(Planted::DecisionsKept),
        _ => None,
    });
}

/// Recovery with [`Bug::MidLogCut`]: cuts the log at the first bad entry, and forgets that more was
/// durable. To be done after a crash, before the log is opened.
pub(super) fn cut_at_first_bad_entry(disk: &SimDisk) {
    let last = media::cut_at_first_bad_entry(disk);
    let path = dir().join("hard-state");
    if disk.with_durable(&path, |_| ()).is_none() {
        return;
    }
    disk.edit(&path, |bytes| {
        for block in bytes.as_chunks_mut::<BLOCK_BYTES>().0 {
            if let Ok(mut slot) = HardStateSlot::from_block(block) {
                slot.state.durable_index = slot.state.durable_index.min(last);
                *block = slot.to_block();
            }
        }
    });
}
