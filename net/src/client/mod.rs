//! Client library. [`operation`], [`directory`], [`link`] and [`session`] decide everything and do
//! no I/O; [`tokio`] and [`blocking`] are thin faces over them, with the same methods.
//!
//! A client is given the address of any node, or of several. It finds the others, sends writes to
//! the partition's leader and plain reads to followers in turn, and goes elsewhere when a node does
//! not answer or leads no more.
//!
//! Every call has a deadline. A write is sent again with the same ids when a connection is lost,
//! which is safe because an id has one verdict for ever. What is still not answered near the
//! deadline is cleared up by asking for the ids' verdicts; only if that fails too does the caller
//! get [`ClientError::OutcomeUnknown`], and may send the same bytes again at any time.

pub mod batch;
pub mod blocking;
mod buffer;
mod chance;
pub mod directory;
mod error;
pub mod link;
mod methods;
pub mod operation;
pub mod session;
pub mod shared;
pub mod tokio;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::message::ArchivedHelloReply;
use crate::model::{ClusterId, EventId, PartitionId};

pub use batch::{Batch, Chain, Submitted};
pub use error::ClientError;
pub use operation::{
    AccountsPage, AdminOutcome, ClusterReport, EventDecision, IdVerdict, NodeReport, Page,
    ServerReport,
};

/// Where servers listen unless told otherwise.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7450";
/// How long a call waits unless told otherwise.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// Credit in bytes that a subscription gives ahead.
pub const SUBSCRIPTION_CREDIT_BYTES: u64 = 8 << 20;
/// Batches that a pipelined submission has in flight unless told otherwise.
pub const PIPELINE_DEPTH_DEFAULT: usize = 8;

/// How long connecting, and being greeted, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long each of them may take while another node could be tried.
const CONNECT_TIMEOUT_ELSEWHERE: Duration = Duration::from_secs(1);
/// How long a leader's account of its partition is waited for; without it less is told.
const CLUSTER_STATUS_WAIT: Duration = Duration::from_secs(2);
/// Bytes of frames gathered for one write to a socket; one frame may be larger.
const OUT_BYTES_WANTED: usize = 256 << 10;

/// Where reads are answered. Tokens hold wherever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadFrom {
    /// By followers in turn, with the state that they have.
    #[default]
    Any,
    /// By the node that takes itself for the leader, with the state that it has.
    Leader,
    /// By the leader, with a state that includes everything acknowledged anywhere before the read.
    Linearizable,
}

/// How a client finds and treats a cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of any nodes; the others are found.
    pub addresses: Vec<String>,
    /// Shown by the server to its operator. At most 64 bytes.
    pub client_name: String,
    /// How long a call waits, all repetitions included.
    pub deadline: Duration,
    /// Unanswered requests on one connection; past it a call waits for room.
    pub inflight_max: usize,
    /// Where reads are answered.
    pub read_from: ReadFrom,
}

impl Config {
    /// Defaults for these addresses, separated by commas.
    pub fn new(addresses: impl AsRef<str>) -> Self {
        let addresses = addresses.as_ref().split(',').map(str::trim);
        let addresses = addresses.filter(|address| !address.is_empty()).map(str::to_owned);
        Self {
            addresses: addresses.collect(),
            client_name: "walengine-net".to_owned(),
            deadline: DEADLINE_DEFAULT,
            inflight_max: 256,
            read_from: ReadFrom::Any,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(ADDRESS_DEFAULT)
    }
}

/// What a client learns from a `Hello`, and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster; stands in every token.
    pub cluster: ClusterId,
    /// Partitions; fixed when the cluster was formatted.
    pub partitions: u16,
    /// Name and version of the server.
    pub server_version: String,
}

impl ClusterInfo {
    /// Every partition.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions).map(PartitionId)
    }
}

impl From<&ArchivedHelloReply<'static>> for ClusterInfo {
    fn from(hello: &ArchivedHelloReply<'static>) -> Self {
        Self {
            cluster: ClusterId(hello.cluster.to_native()),
            partitions: hello.partitions.to_native(),
            server_version: hello.server_version.to_string(),
        }
    }
}

/// A new id for an event: a `UUIDv7`, so that ids made later are mostly larger, which the server's
/// memory of ids likes. Unique without asking anybody.
pub fn new_event_id() -> EventId {
    EventId(uuid::Uuid::now_v7().as_u128())
}

/// Seed for the jitter of retries; not for secrets.
fn jitter_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
}
