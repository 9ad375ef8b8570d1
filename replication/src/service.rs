//! What a group answers its peers. Lives on the group's shard; called by the transport.

use openraft::Raft;
use openraft::async_runtime::{MpscReceiver, MpscSender};
use openraft::storage::RaftStateMachine;

use crate::transport::{AppendReceiver, Request, Response, ResultSender};
use crate::types::{SnapshotData, Types};

/// Answers one request; the error says why this node's group has stopped.
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

/// Takes a stream of appends until it ends, or the group has stopped. Several may be taken before
/// the first is durable; results go out in order.
pub async fn take_appends<M>(raft: &Raft<Types, M>, requests: AppendReceiver, results: ResultSender)
where
    M: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    let requests = futures_lite::stream::unfold(requests, |mut requests| async move {
        requests.recv().await.map(|request| (request, requests))
    });
    let mut answers = Box::pin(raft.stream_append(requests));
    while let Some(Ok(result)) = futures_lite::StreamExt::next(&mut answers).await {
        if results.send(result).await.is_err() {
            return;
        }
    }
}
