//! The transport between replicas over TCP: one connection for each partition and peer. [`dial`]
//! asks, [`accept`] answers; the bytes are those of PEER.md. Lives on the partition's shard; not
//! `Send`.

pub mod accept;
pub mod dial;
mod dialled;
mod outgoing;
pub mod socket;

use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId};

use crate::types::NodeId;

/// How long connecting, and being greeted, may take.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A connection that owes an answer and is silent for this long is given up. After a silent network
/// cut the kernel would retransmit for a quarter of an hour, ever more rarely.
pub const SILENT_MAX: Duration = Duration::from_secs(2);
/// The answering node closes a connection on which nothing arrives for this long.
pub const IDLE_MAX: Duration = Duration::from_mins(1);
/// Shortest and longest pause before a node is dialled again. The pause doubles with every failure.
pub const AGAIN_AFTER: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));
/// Bytes that may wait to be sent on a connection; past it, senders wait, and nothing more is read
/// from a peer that is to be answered.
pub const OUT_BYTES_MAX: usize = 8 << 20;
/// Bytes are sent in steps of so many, each with its own time.
pub const OUT_STEP_BYTES: usize = 256 << 10;
/// How long a peer may take none of its answers.
pub const UNREAD_MAX: Duration = Duration::from_secs(10);
/// The same, and how long nothing of a large frame may arrive, while others wait for the memory that
/// the connection holds.
pub const PRESSED_MAX: Duration = Duration::from_secs(1);
/// Pages of the log that one connection may have in work.
pub const LOG_READS_MAX: usize = 4;
/// Bytes of batch bodies that may be sent to a peer and unanswered; one append may pass it.
/// Whatever is sent after them, heartbeats included, waits until the peer has written them: a sixth
/// of a second on a disk that takes 100 MB/s.
pub const APPEND_BYTES_MAX: u64 = 16 << 20;
/// Requests of a stream that may be queued between the group and the connection.
pub const STREAM_REQUESTS: usize = 32;
/// Results of a stream that may be queued on their way back.
pub const STREAM_RESULTS: usize = 1024;
/// Appends of one connection that a replica may have taken and not answered.
pub const APPENDS_TAKEN_MAX: usize = 64;

/// Which replica stands at this end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The partition.
    pub partition: PartitionId,
    /// Partitions of the cluster.
    pub partitions: u16,
}
