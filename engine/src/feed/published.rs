//! What a shard and the feed share of one partition: how far it is visible, and the channels that
//! carry its entries. The shard never waits for the feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use walengine_net::model::{Offset, PartitionId};
use walengine_replication::tcp::socket::MovingSocket;

use crate::connection::request_ids::RequestIds;
use crate::limits::{FEED_PASSING_BYTES_MAX, FEED_PASSING_EVERY, FEED_QUEUE_BYTES_MAX};
use crate::policy::Permit;
use crate::runtime::Runtime;
use crate::storage::archive::Extent;
use crate::storage::tap::Tapped;
use crate::visible::Visible;

/// See the module.
#[derive(Debug, Default)]
pub struct Published {
    index: AtomicU64,
    next_offset: AtomicU64,
    sequence: AtomicU64,
    stopped: AtomicBool,
    wanted: AtomicBool,
    /// Bytes of entries in the queues of all partitions.
    queued_bytes: Arc<AtomicUsize>,
}

impl Published {
    /// Of one of the partitions that share the room in the queues.
    pub fn new(queued_bytes: &Arc<AtomicUsize>) -> Self {
        Self { queued_bytes: queued_bytes.clone(), ..Self::default() }
    }

    /// The shard: everything up to here is visible, and is on this node's disk; the log writes to
    /// the segment `sequence`.
    pub fn tell(&self, visible: Visible, sequence: u64) {
        // The offset last: a reader that sees it finds the entries before it.
        self.sequence.store(sequence, Ordering::SeqCst);
        self.index.store(visible.index, Ordering::SeqCst);
        self.next_offset.store(visible.next_offset.0, Ordering::SeqCst);
    }

    /// Everything below may be visible.
    pub fn next_offset(&self) -> Offset {
        Offset(self.next_offset.load(Ordering::SeqCst))
    }

    /// How far the segments may be read.
    pub fn extent(&self) -> Extent {
        // The index first: the segment that it is in is at most the one that is found then.
        let index = self.index.load(Ordering::SeqCst);
        Extent { index, sequence: self.sequence.load(Ordering::SeqCst) }
    }

    /// For the shard: the partition serves no more. False if that was known.
    pub fn stop(&self) -> bool {
        !self.stopped.swap(true, Ordering::SeqCst)
    }

    /// The partition serves no more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// For the feed: send entries as they are committed from now on, or none.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// A subscriber waits for the next entries.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Takes room in the queue, if there is any.
    pub fn take_room(&self, bytes: usize) -> bool {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        let fits = before + bytes <= FEED_QUEUE_BYTES_MAX;
        if !fits {
            self.give_room(bytes);
        }
        fits
    }

    /// Gives room in the queue back.
    pub fn give_room(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// Entries that were committed. An empty list only wakes the feed.
pub type Notice = Vec<Tapped>;

/// A connection on its way to the feed, which serves it from now on. Frames of other requests than
/// subscriptions go on to the session on the shard, and its answers come back.
pub struct Subscriber {
    /// The connection.
    pub socket: MovingSocket,
    /// Received bytes that were not acted on yet.
    pub received: Vec<u8>,
    /// Its partition.
    pub partition: PartitionId,
    /// The request ids that it has used.
    pub ids: RequestIds,
    /// What its caller may do.
    pub permit: Permit,
    /// Whole frames for the session.
    pub frames: flume::Sender<Passed>,
    /// Whole frames from the session.
    pub answers: flume::Receiver<Passed>,
}

/// Bytes on their way between connections and sessions, in both directions, of the whole node.
#[derive(Clone, Debug, Default)]
pub struct Passing(Arc<AtomicUsize>);

impl Passing {
    /// Counts `bytes` as on their way, once there is room for them. Only an overloaded node waits
    /// here, so it just looks again.
    pub async fn pass<R: Runtime>(&self, bytes: Vec<u8>, runtime: &R) -> Passed {
        let more = bytes.capacity();
        loop {
            let before = self.0.fetch_add(more, Ordering::SeqCst);
            if before == 0 || before + more <= FEED_PASSING_BYTES_MAX {
                return Passed { bytes, counted: more, passing: self.0.clone() };
            }
            self.0.fetch_sub(more, Ordering::SeqCst);
            runtime.sleep(FEED_PASSING_EVERY).await;
        }
    }
}

/// Whole frames on their way. They count until this is dropped.
#[derive(Debug)]
pub struct Passed {
    /// The frames.
    pub bytes: Vec<u8>,
    counted: usize,
    passing: Arc<AtomicUsize>,
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.passing.fetch_sub(self.counted, Ordering::SeqCst);
    }
}

/// A partition's channels to the feed.
#[derive(Clone, Debug)]
pub struct FeedChannels {
    /// Shared positions.
    pub published: Arc<Published>,
    /// Entries. Bounded: what does not fit is dropped.
    pub notices: flume::Sender<Notice>,
    /// Connections. Bounded, for all partitions.
    pub subscribers: flume::Sender<Subscriber>,
    /// What is on its way between them and their sessions.
    pub passing: Passing,
}
