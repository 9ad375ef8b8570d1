//! Client library. [`operation`], [`directory`], [`link`] and [`session`] make all decisions and do
//! no I/O. [`tokio`] and [`blocking`] are thin faces over them with the same methods.
//!
//! A client is given the addresses of one or more nodes and finds the others. It sends writes to
//! the partition's leader and plain reads to followers in turn, and goes to another node when one
//! does not answer or no longer leads.
//!
//! Every call has a deadline. When a connection is lost, a write is sent again with the same ids,
//! which is safe because an id has one verdict for ever. If there is no answer shortly before the
//! deadline, the client asks for the ids' verdicts. Only if that fails too does the caller get
//! [`ClientError::OutcomeUnknown`], and may send the same bytes again at any time.

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

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::identity::Identity;
use crate::message::ArchivedHelloReply;
use crate::model::{ClusterId, EventId, PartitionId};
use crate::tls::{CredentialsError, Tls};

pub use batch::{Batch, Chain, Submitted};
pub use error::ClientError;
pub use operation::{
    AccountsAt, AccountsPage, AdminOutcome, ClusterReport, DescribedLedger, EntriesToImport,
    EventDecision, IdVerdict, ImportedSome, NamedAccount, NamesPage, NodeReport, OpenReservation,
    Page, ReservationsPage, ServerReport, StateSummary, Trouble,
};

/// Default address of a server.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7450";
/// Default deadline of a call.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// Credit in bytes with which a subscription starts.
pub const SUBSCRIPTION_CREDIT_BYTES: u64 = 8 << 20;
/// Default number of batches in flight in a pipelined submission.
pub const PIPELINE_DEPTH_DEFAULT: usize = 8;

/// How long connecting may take, and then being greeted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same while another node could be tried.
const CONNECT_TIMEOUT_ELSEWHERE: Duration = Duration::from_secs(1);
/// How long to wait for a leader's cluster status. The report has less in it without.
const CLUSTER_STATUS_WAIT: Duration = Duration::from_secs(2);
/// Bytes of frames gathered for one write to a socket. One frame may be larger.
const OUT_BYTES_WANTED: usize = 256 << 10;

/// Which nodes answer reads. Tokens hold at all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadFrom {
    /// Followers in turn, with the state that they have.
    #[default]
    Any,
    /// The node that believes it leads, with the state that it has.
    Leader,
    /// The leader, with a state that includes everything that any node acknowledged before the
    /// read.
    Linearizable,
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of one or more nodes. The others are found.
    pub addresses: Vec<String>,
    /// Name of the client, for the server's operator. At most 64 bytes.
    pub client_name: String,
    /// For whom requests are made; `None`: for whom the certificate in `tls` names. Only a node may make them for
    /// others, whose certificate it has seen.
    pub acts_for: Option<Arc<Identity>>,
    /// How long a call waits, repetitions included.
    pub deadline: Duration,
    /// Most unanswered requests on one connection. Past it a call waits for room.
    pub inflight_max: usize,
    /// Which nodes answer reads.
    pub read_from: ReadFrom,
    /// Who the client is, and whom it believes; `None`: connections are not secured. The files are read
    /// again before a connection is made.
    pub tls: Option<Arc<Tls>>,
}

impl Config {
    /// Defaults for these addresses, separated by commas.
    pub fn new(addresses: impl AsRef<str>) -> Self {
        let addresses = addresses.as_ref().split(',').map(str::trim);
        let addresses = addresses.filter(|address| !address.is_empty()).map(str::to_owned);
        Self {
            addresses: addresses.collect(),
            client_name: "walengine-net".to_owned(),
            acts_for: None,
            deadline: DEADLINE_DEFAULT,
            inflight_max: 256,
            read_from: ReadFrom::Any,
            tls: None,
        }
    }
}

impl Config {
    /// The same with the credentials in this directory: `ca.pem`, `identity.pem`, `identity.key`.
    ///
    /// # Errors
    /// They can't be used.
    pub fn secured(self, dir: &Path) -> Result<Self, CredentialsError> {
        Ok(Self { tls: Some(Arc::new(Tls::open(dir)?)), ..self })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(ADDRESS_DEFAULT)
    }
}

/// What a client learns from its first greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster. It is part of every token.
    pub cluster: ClusterId,
    /// Number of partitions, fixed when the cluster was formatted.
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

/// A new id for an event: a `UUIDv7`. Later ids are mostly larger, which makes the server's
/// look-ups cheap. Unique without asking a server.
pub fn new_event_id() -> EventId {
    EventId(uuid::Uuid::now_v7().as_u128())
}

/// Seed for the jitter of retries, not for secrets.
fn jitter_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
}
