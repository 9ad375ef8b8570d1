//! What a shard starts with.

use std::net::TcpListener;
use std::sync::Arc;

use super::handed::HandedConnection;
use crate::fatal::Fatal;
use crate::feed::published::FeedChannels;
use crate::node_state::NodeState;
use crate::orders::{Beginning, ControlOrder, ShardOrder};

/// See the module.
pub struct ShardStart {
    /// Its number.
    pub shard: usize,
    /// What all threads of the node share.
    pub state: Arc<NodeState>,
    /// The socket that all shards accept clients from.
    pub listener: TcpListener,
    /// The socket that all shards accept peers from, in a cluster.
    pub peer_listener: Option<TcpListener>,
    /// What new groups begin with.
    pub beginning: Beginning,
    /// To the control thread of a node in a cluster.
    pub control: Option<flume::Sender<ControlOrder>>,
    /// To the feed, for each partition by number.
    pub feed: Vec<FeedChannels>,
    /// Connections from other shards.
    pub handed: flume::Receiver<HandedConnection>,
    /// Ways to all shards, by number.
    pub others: Vec<flume::Sender<HandedConnection>>,
    /// From the main thread and the control thread.
    pub orders: flume::Receiver<ShardOrder>,
    /// To the main thread: ready, or why not.
    pub report: flume::Sender<Result<(), Fatal>>,
}
