//! The seam to the peers of a group. Production: one TCP connection for each partition and peer;
//! tests: a simulated network.

use std::future::Future;

use openraft::alias::{MpscReceiverOf, MpscSenderOf};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::types::{Member, NodeId, Types};

/// A request to a peer that has one answer.
#[derive(Clone, Debug)]
pub enum Request {
    /// Take these entries, outside of a stream.
    Append(AppendEntriesRequest<Types>),
    /// Vote for this candidate.
    Vote(VoteRequest<Types>),
    /// Would you vote for this candidate?
    PreVote(VoteRequest<Types>),
    /// Become leader.
    TransferLeader(TransferLeaderRequest<Types>),
}

/// Answer to the [`Request`] of the same name.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the requests")]
pub enum Response {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    PreVote(VoteResponse<Types>),
    TransferLeader(TransferLeaderResponse<Types>),
}

/// Why there is no answer. It is unknown whether the peer has executed the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Nothing answers at the peer's address.
    #[error("node {0} can't be reached")]
    Unreachable(NodeId),
    /// The connection broke.
    #[error("the connection to node {0} broke")]
    Broken(NodeId),
    /// The peer's group has stopped.
    #[error("node {0} has stopped: {1}")]
    Stopped(NodeId, String),
    /// The peer knows that this node has had more of the log than it has now.
    #[error("node {0} refuses this node: {1}")]
    SetBack(NodeId, String),
    /// The peer takes this node for one that lies.
    #[error("node {0} does not believe this node: {1}")]
    Dishonest(NodeId, String),
}

/// Why a group does not answer a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It has stopped on this node; in words.
    Stopped(String),
    /// The peer was set back to an older copy of its data directory; in words.
    SetBack(String),
    /// The peer asked for what no honest one does; in words.
    Dishonest(String),
    /// It is not clear yet whether the peer was set back; in words. It may ask again.
    Unclear(String),
}

impl NoAnswer {
    /// As the peer learns it of `node`, which does not answer.
    pub fn from_node(self, node: NodeId) -> TransportError {
        match self {
            Self::Stopped(why) | Self::Unclear(why) => TransportError::Stopped(node, why),
            Self::SetBack(why) => TransportError::SetBack(node, why),
            Self::Dishonest(why) => TransportError::Dishonest(node, why),
        }
    }
}

/// Requests of a stream, on the leader.
pub type AppendSender = MpscSenderOf<Types, AppendEntriesRequest<Types>>;
/// Requests of a stream, on the peer.
pub type AppendReceiver = MpscReceiverOf<Types, AppendEntriesRequest<Types>>;
/// Results of a stream, on the peer.
pub type ResultSender = MpscSenderOf<Types, StreamAppendResult<Types>>;
/// Results of a stream, on the leader.
pub type ResultReceiver = MpscReceiverOf<Types, StreamAppendResult<Types>>;

/// A stream of appends: requests are sent in order, and results return in the same order. Dropping
/// the sender ends it. If it breaks, the results end.
pub struct AppendStream {
    /// Requests to the peer.
    pub requests: AppendSender,
    /// Its results.
    pub results: ResultReceiver,
}

/// How a group reaches its peers. Clones share connections.
///
/// To ensure correctness, an implementation delivers the requests of one stream in order, each at
/// most once, and nothing after a request that was lost.
pub trait Transport: Clone + 'static {
    /// Sends a request and waits for its answer.
    fn call(
        &self,
        target: NodeId,
        member: Member,
        request: Request,
    ) -> impl Future<Output = Result<Response, TransportError>> + 'static;

    /// Begins a stream of appends to a peer.
    fn open(
        &self,
        target: NodeId,
        member: Member,
    ) -> impl Future<Output = Result<AppendStream, TransportError>> + 'static;
}
