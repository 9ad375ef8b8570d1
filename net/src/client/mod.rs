//! Client library. [`session`] and [`operation`] decide everything and do no I/O; [`tokio`] and
//! [`blocking`] are thin faces over them, with the same methods.
//!
//! Every call has a deadline. A write is sent again with the same ids when a connection is lost,
//! which is safe because an id has one verdict for ever. What is still not answered near the
//! deadline is cleared up by asking for the ids' verdicts; only if that fails too does the caller
//! get [`ClientError::OutcomeUnknown`], and may send the same bytes again at any time.

pub mod batch;
pub mod blocking;
mod buffer;
mod error;
pub mod operation;
pub mod session;
pub mod tokio;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::message::ArchivedHelloReply;
use crate::model::{ClusterId, EventId, PartitionId};

pub use batch::{Batch, Chain, Submitted};
pub use error::ClientError;
pub use operation::{AccountsPage, EventDecision, IdVerdict, Page, ServerReport};

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
/// Bytes of frames gathered for one write to a socket; one frame may be larger.
const OUT_BYTES_WANTED: usize = 256 << 10;

/// How a client finds and treats a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of any node.
    pub address: String,
    /// Shown by the server to its operator. At most 64 bytes.
    pub client_name: String,
    /// How long a call waits, all repetitions included.
    pub deadline: Duration,
    /// Unanswered requests on one connection; past it a call waits for room.
    pub inflight_max: usize,
}

impl Config {
    /// Defaults for this address.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            client_name: "walengine-net".to_owned(),
            deadline: DEADLINE_DEFAULT,
            inflight_max: 256,
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
