//! Answers the requests of peers. Lives on the group's shard; the transport calls it.
//!
//! # What is durable before what is answered
//!
//! The transport sends an answer as soon as openraft gives one, so the order below is a promise of
//! the log under openraft (the engine's `raft_log`). The vote is in the hard-state file, entries
//! are in segments.
//!
//! ```text
//! peer asks               this replica                                      answer
//!
//! Vote, term 7            flush the log, wait until all of it is durable
//!                         write the hard state: term 7, voted for
//!                           durable                                         granted
//!
//! Append e1 e2, term 8    8 is higher than 7: as above, term 8
//!                           durable
//!                         append e1 e2, start writing them
//! Append e3               append e3, start writing it: several in flight
//!                           e1 e2 durable                                   durable to e2
//!                           e3 durable                                      durable to e3
//!
//! on the leader           append e1, start writing it    (no earlier than its own vote is durable)
//!                         send e1 to the peers at once, count itself only when
//!                           e1 durable
//!                         a majority has e1 durable: committed, apply it, answer the client
//!                         keep the commit position in memory, write it with the next vote,
//!                         when the partition falls idle, and at shutdown
//! ```
//!
//! - A vote is durable before it is granted, and before any entry of its term is appended.
//!   Otherwise a restarted node could vote twice in a term, or take entries from an older leader
//!   over committed ones (openraft, `docs/protocol/io_ordering.md`).
//! - A vote is written only when everything appended before it is durable: openraft takes the end
//!   of `save_vote` for the end of every earlier write.
//! - An entry counts as durable only when all entries before it are. So one position says it all.
//! - The saved commit position may lag behind: it is a lower bound.

use futures_lite::Stream;
use openraft::Raft;
use openraft::async_runtime::MpscSender;
use openraft::raft::AppendEntriesRequest;
use openraft::storage::RaftStateMachine;

use crate::transport::{Request, Response, ResultSender};
use crate::types::{SnapshotData, Types};

/// Answers one request. The error says why the group has stopped on this node.
pub async fn answer<M>(raft: &Raft<Types, M>, request: Request) -> Result<Response, String>
where
    M: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    let stopped = |error: &dyn std::fmt::Display| error.to_string();
    Ok(match request {
        Request::Append(rpc) => {
            Response::Append(raft.append_entries(rpc).await.map_err(|error| stopped(&error))?)
        }
        Request::Vote(rpc) => {
            Response::Vote(raft.vote(rpc).await.map_err(|error| stopped(&error))?)
        }
        Request::PreVote(rpc) => {
            Response::PreVote(raft.pre_vote(rpc).await.map_err(|error| stopped(&error))?)
        }
        Request::TransferLeader(rpc) => {
            let answered = raft.handle_transfer_leader(rpc).await;
            Response::TransferLeader(answered.map_err(|error| stopped(&error))?)
        }
    })
}

/// Handles a stream of appends until it ends or the group stops. Several appends may be handled
/// before the first is durable. Results are sent in order.
pub async fn take_appends<M>(
    raft: &Raft<Types, M>,
    requests: impl Stream<Item = AppendEntriesRequest<Types>> + 'static,
    results: ResultSender,
) where
    M: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    let mut answers = Box::pin(raft.stream_append(requests));
    while let Some(Ok(result)) = futures_lite::StreamExt::next(&mut answers).await {
        if results.send(result).await.is_err() {
            return;
        }
    }
}
