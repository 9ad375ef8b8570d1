//! The seam to the peers of a group. Production: one connection for each pair of shard and node;
//! tests: a simulated network.

use std::future::Future;

use openraft::alias::{MpscReceiverOf, MpscSenderOf};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::types::{Member, NodeId, Types};

/// What is asked of a peer and answered once.
#[derive(Clone, Debug)]
pub enum Request {
    /// To take these entries; outside of a stream.
    Append(AppendEntriesRequest<Types>),
    /// For its vote.
    Vote(VoteRequest<Types>),
    /// Whether it would vote.
    PreVote(VoteRequest<Types>),
    /// To become leader.
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

/// Why there is no answer. Whether the peer has done what it was asked is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Nobody answers at its address.
    #[error("node {0} can't be reached")]
    Unreachable(NodeId),
    /// The connection broke.
    #[error("the connection to node {0} broke")]
    Broken(NodeId),
    /// The peer's group has stopped.
    #[error("node {0} has stopped: {1}")]
    Stopped(NodeId, String),
}

/// Requests of a stream on their way to a peer.
pub type AppendSender = MpscSenderOf<Types, AppendEntriesRequest<Types>>;
/// Requests of a stream as the peer gets them.
pub type AppendReceiver = MpscReceiverOf<Types, AppendEntriesRequest<Types>>;
/// Results of a stream on their way back.
pub type ResultSender = MpscSenderOf<Types, StreamAppendResult<Types>>;
/// Results of a stream as the leader gets them.
pub type ResultReceiver = MpscReceiverOf<Types, StreamAppendResult<Types>>;

/// A stream of appends: requests go out in order, results come back in the same order. It ends by
/// dropping the sender; if it breaks, the results end.
pub struct AppendStream {
    /// Requests to the peer.
    pub requests: AppendSender,
    /// Its results.
    pub results: ResultReceiver,
}

/// How a group reaches its peers. Clones share connections.
///
/// To ensure correctness, an implementation delivers the requests of one stream in order, each at
/// most once, and nothing of it after a gap.
pub trait Transport: Clone + 'static {
    /// Asks a peer.
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
