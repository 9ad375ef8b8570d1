//! The transport between replicas over TCP: one connection for each partition and node that it
//! talks to. [`dial`] asks, [`accept`] answers; bytes are those of `PEER.md`. Lives on the
//! partition's shard; not `Send`.

pub mod accept;
pub mod dial;
mod outgoing;

use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId};

use crate::types::NodeId;

/// How long connecting, and being greeted, may take.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A connection on which something is asked and nothing comes back for this long is given up: the
/// kernel would go on sending into a cut for a quarter of an hour, ever more rarely.
pub const SILENT_MAX: Duration = Duration::from_secs(2);
/// A connection on which nothing is asked for this long is closed by the node that would answer.
pub const IDLE_MAX: Duration = Duration::from_mins(1);
/// After a failure, a node is not dialled for a time between these two, which double up to it.
pub const AGAIN_AFTER: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));
/// Bytes that may wait to be sent on a connection; past it those who have more to say wait.
pub const OUT_BYTES_MAX: usize = 8 << 20;
/// Bytes of bodies that a peer may have been sent and not answered; one append may pass it. What is
/// behind them waits for as long as they take, a leader's sign of life included: on a disk that
/// takes 100 MB/s this is a sixth of a second.
pub const APPEND_BYTES_MAX: u64 = 16 << 20;
/// Requests of a stream that may be on their way between the group and the connection.
pub const STREAM_REQUESTS: usize = 32;
/// Answers of a stream that may be on their way back.
pub const STREAM_RESULTS: usize = 1024;
/// Appends of one connection that a replica may have taken and not answered.
pub const APPENDS_TAKEN_MAX: usize = 64;

/// Who this end of a connection is.
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
