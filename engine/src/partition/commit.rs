//! The seam between a partition and what makes its decisions final.
//!
//! [`Alone`](super::alone::Alone) flushes to this node's disk; [`Consensus`](super::group::Consensus)
//! replicates to a majority. Everything else about a partition exists once, in [`super::Partition`].

use walengine_replication::types::{Batch, NodeId};

use super::drafts::{DraftHead, Drafts};
use super::replica::Replica;
use crate::ledger::SnapshotCut;
use crate::local::Notify;
use crate::refused::Refused;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::Tail;
use crate::storage::log::Log;
use crate::visible::Visible;

/// Makes what one replica decides final. Lives on the partition's shard core; not `Send`.
///
/// ```text
///  Partition   decide ── seal ───────────────────────────── settle ─── answer
///                          │                                   ▲
///  Alone                propose ── flush ── durable here ── committed
///  Consensus            propose ── push ── on a majority ── committed
/// ```
///
/// To ensure correctness, an implementation
/// - takes batches in the order of `propose`, and reports them committed in that order;
/// - reports nothing as committed that a power cut on a minority of nodes can undo;
/// - never reports a batch as committed after it told the replica to take it back;
/// - wakes `changed` after `committed`, `leads` or `stopped` has moved;
/// - keeps `stopped` once it is set.
pub trait Commit: 'static {
    /// Where the log is.
    type Disk: Disk;
    /// The executor of the shard.
    type Runtime: Runtime;

    /// The log of this node.
    fn log(&self) -> &Log<Self::Disk, Self::Runtime>;

    /// The open draft may be proposed now; if not, more is gathered first.
    fn wants_batch(&self, replica: &Replica) -> bool;

    /// There is room for another batch beside those that are on their way.
    fn has_room(&self, replica: &Replica) -> bool;

    /// Takes a batch that was decided in `term`. What is returned is kept until the batch is
    /// committed, so that it can be taken back; `None` if that never happens.
    ///
    /// # Errors
    /// There is no room, or the log has stopped. Nothing was taken.
    fn propose(
        &self,
        term: u64,
        head: &DraftHead,
        draft: &Drafts,
    ) -> Result<Option<Batch>, Refused>;

    /// Begins to write what was proposed, if that needs no waiting.
    fn flush(&self);

    /// Hands what was proposed on, if that needs waiting. True if it is worth another call: something
    /// was handed on, and there may be more.
    fn push(&self) -> impl Future<Output = bool>;

    /// The newest entry that is visible.
    fn committed(&self) -> Visible;

    /// Lets the replica know how far its batches are committed.
    fn settle(&self, replica: &mut Replica);

    /// Wakes when anything that this trait reports has changed.
    fn changed(&self) -> Notify;

    /// The node that decides, as far as this one knows.
    fn leader(&self) -> Option<NodeId>;

    /// The newest term that this node knows of.
    fn term(&self) -> u64;

    /// The state may be shown: it includes, since the start of this node, everything that this node
    /// knew to be committed anywhere.
    fn is_readable(&self) -> bool;

    /// Who is told what became of a unit that spans partitions may be told so as soon as the word on it is here: nobody
    /// can show another state then, nor decide on one, whatever is lost. Otherwise once it is committed.
    fn answers_at_word(&self) -> bool;

    /// Completes when the state of this node includes everything that was visible anywhere before
    /// the call: what it shows then is linearizable.
    fn barrier(&self) -> impl Future<Output = Result<(), Refused>>;

    /// The committed entry at whose end the state was cut. `None` if the cut was taken back, or the
    /// partition stops first.
    fn point_of(&self, cut: &SnapshotCut) -> impl Future<Output = Option<Point>>;

    /// Bytes of entries that the ledger took in since the start, or the replay at the start.
    fn written_bytes(&self) -> u64;

    /// Bytes of the newest entries, as far as they are kept in memory.
    fn newest_bytes(&self) -> usize;

    /// Why nothing is taken any more, for good.
    fn stopped(&self) -> Option<Refused>;

    /// A run of ids stays unreadable. Whoever has others that can serve in its place stops, for good.
    fn can_not_look_up(&self, why: String) -> impl Future<Output = ()>;

    /// Ends, and closes the log. `is_finished`: everything that was decided is committed.
    fn close(&self, is_finished: bool) -> impl Future<Output = Result<(), Refused>>;

    /// Runs a task of the partition in the background.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// The executor of the shard.
    fn runtime(&self) -> &Self::Runtime;
}

/// A committed point of the log.
#[derive(Clone, Debug)]
pub struct Point {
    /// The entry.
    pub applied: Tail,
    /// The members of the group there, encoded; empty without a group.
    pub members: Vec<u8>,
}
