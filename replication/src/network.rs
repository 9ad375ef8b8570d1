//! A peer as openraft's network. openraft makes one for each task that talks to a peer; all of them
//! share the transport. Lives on the group's shard.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{Stream, StreamExt};
use openraft::alias::{SleepOf, TimeoutOf};
use openraft::async_runtime::{MpscReceiver, MpscSender};
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, RaftNetworkFactory, RaftNetworkV2};

use crate::honest::{self, Dishonest};
use crate::reached::Reached;
use crate::runtime::LocalRuntime;
use crate::transport::{AppendStream, Request, Response, Transport, TransportError};
use crate::types::{Member, NodeId, RaftSnapshot, SnapshotData, Types, Vote};

/// Makes [`Peer`]s.
pub struct Peers<T> {
    /// This node.
    pub node: NodeId,
    /// How peers are reached.
    pub transport: T,
    /// What peers are known to have had.
    pub reached: Reached,
}

/// See the module.
pub struct Peer<T> {
    node: NodeId,
    target: NodeId,
    member: Member,
    transport: T,
    reached: Reached,
}

impl<T: Transport> RaftNetworkFactory<Types> for Peers<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Peer<T> {
        let (transport, reached) = (self.transport.clone(), self.reached.clone());
        Peer { node: self.node, target, member: member.clone(), transport, reached }
    }
}

type RpcResult<R> = Result<R, RPCError<Types>>;

impl<T: Transport> Peer<T> {
    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> RPCError<Types> {
        Timeout { action, id: self.node, target: self.target, timeout }.into()
    }

    async fn call(&self, action: RPCTypes, ttl: Duration, request: Request) -> RpcResult<Response> {
        let call = self.transport.call(self.target, self.member.clone(), request);
        let answer: TimeoutOf<Types, _, _> = LocalRuntime::timeout(ttl, call);
        match answer.await {
            Ok(Err(TransportError::SetBack(node, why))) => {
                self.reached.told(format!("node {node} refuses this one: {why}"));
                Err(rpc_error(&TransportError::SetBack(node, why)))
            }
            Ok(answer) => answer.map_err(|error| rpc_error(&error)),
            Err(_) => Err(self.timed_out(action, ttl)),
        }
    }
}

/// A peer whose log has lost what it had, or that takes none of it, counts as one that can't be reached.
fn set_back(checked: Result<(), String>) -> RpcResult<()> {
    checked.map_err(|why| Unreachable::from_string(why).into())
}

fn rpc_error(error: &TransportError) -> RPCError<Types> {
    match error {
        TransportError::Broken(_) => NetworkError::new(error).into(),
        _ => Unreachable::new(error).into(),
    }
}

/// What no honest peer answers counts as no answer.
fn believed(checked: Result<(), Dishonest>, node: NodeId) -> RpcResult<()> {
    checked.map_err(|why| {
        tracing::warn!("an answer of node {node} is not believed: {why}");
        Unreachable::from_string(why.to_string()).into()
    })
}

/// The peer has answered with another kind of message than the request asks for.
fn other_answer() -> RPCError<Types> {
    NetworkError::from_string("the peer answered another question").into()
}

impl<T: Transport> RaftNetworkV2<Types> for Peer<T> {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        set_back(self.reached.admits(self.target))?;
        // The peer lacks the entry at this index.
        let conflict = rpc.prev_log_id.map_or(0, |lacks| lacks.index);
        let term = rpc.vote.leader_id.term;
        let request = Request::Append(rpc);
        match self.call(RPCTypes::AppendEntries, option.hard_ttl(), request).await? {
            Response::Append(AppendEntriesResponse::Conflict) => {
                set_back(self.reached.check_conflict(self.target, term, conflict))?;
                Ok(AppendEntriesResponse::Conflict)
            }
            Response::Append(AppendEntriesResponse::HigherVote(vote)) => {
                believed(honest::term(vote.leader_id.term, term), self.target)?;
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            Response::Append(response) => Ok(response),
            _ => Err(other_answer()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Unpin + 'static,
    {
        Box::pin(async move {
            let mut input = input;
            if let Err(why) = self.reached.takes_entries(self.target) {
                // Where openraft waits between two attempts: without it, it asks again at once.
                let _ = input.next().await;
                return Err(Unreachable::from_string(why).into());
            }
            let ttl = option.hard_ttl();
            let open = self.transport.open(self.target, self.member.clone());
            let opened: TimeoutOf<Types, _, _> = LocalRuntime::timeout(ttl, open);
            let Ok(opened) = opened.await else {
                return Err(self.timed_out(RPCTypes::AppendEntries, ttl));
            };
            let timed_out = self.timed_out(RPCTypes::AppendEntries, ttl);
            // A stream is of one leader.
            let (term, sent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
            let (of, to) = (term.clone(), sent.clone());
            let input = input.inspect(move |request| {
                of.set(request.vote.leader_id.term);
                let last = request.entries.last().map(|entry| entry.log_id);
                let last = last.or(request.prev_log_id).map(|id| id.index);
                to.set(to.get().max(last));
            });
            let opened = opened.map_err(|error| rpc_error(&error))?;
            let appends = Appends::new(opened, input, ttl, timed_out);
            let (reached, target) = (self.reached.clone(), self.target);
            let checked = appends.map(move |result| {
                // The stream ends; the next one begins when the node takes entries again.
                set_back(reached.takes_entries(target))?;
                match &result {
                    Ok(Ok(Some(last))) => {
                        believed(honest::confirmed(Some(last), sent.get()), target)?;
                        reached.acknowledged(target, term.get(), last.index + 1);
                    }
                    Ok(Err(StreamAppendError::Conflict(lacks))) => {
                        set_back(reached.check_conflict(target, term.get(), lacks.index))?;
                    }
                    Ok(Err(StreamAppendError::HigherVote(vote))) => {
                        believed(honest::term(vote.leader_id.term, term.get()), target)?;
                    }
                    _ => {}
                }
                result
            });
            Ok::<BoxStream<'s, _>, _>(Box::pin(checked))
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        let term = rpc.vote.leader_id.term;
        match self.call(RPCTypes::Vote, option.hard_ttl(), Request::Vote(rpc)).await? {
            Response::Vote(response) => {
                believed(honest::term(response.vote.leader_id.term, term), self.target)?;
                set_back(self.reached.check(self.target, response.last_log_id))?;
                Ok(response)
            }
            _ => Err(other_answer()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        let term = rpc.vote.leader_id.term;
        match self.call(RPCTypes::Vote, option.hard_ttl(), Request::PreVote(rpc)).await? {
            Response::PreVote(response) => {
                believed(honest::term(response.vote.leader_id.term, term), self.target)?;
                set_back(self.reached.check(self.target, response.last_log_id))?;
                Ok(response)
            }
            _ => Err(other_answer()),
        }
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: RaftSnapshot,
        _cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // The log is never purged, so openraft has no reason to ask for it.
        let why = "snapshots are not sent: a new replica copies the log";
        Err(Unreachable::from_string(why).into())
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let request = Request::TransferLeader(rpc);
        match self.call(RPCTypes::TransferLeader, option.hard_ttl(), request).await? {
            Response::TransferLeader(response) => Ok(response),
            _ => Err(other_answer()),
        }
    }
}

type Pump = Pin<Box<dyn Future<Output = ()>>>;
type Results = Pin<Box<dyn Stream<Item = StreamAppendResult<Types>>>>;

/// The results of a stream of appends. Polling it also sends the requests; several may be
/// unanswered at the same time. Ends when the input has ended and every result has arrived.
struct Appends {
    /// `None` once the input has ended.
    pump: Option<Pump>,
    results: Results,
    /// Requests that were sent and not answered.
    pending: Rc<Cell<usize>>,
    /// While something is pending: when the next result must have arrived.
    deadline: Option<Pin<Box<SleepOf<Types>>>>,
    ttl: Duration,
    /// `None` once the stream has ended.
    timed_out: Option<RPCError<Types>>,
}

impl Appends {
    fn new(
        stream: AppendStream,
        mut input: impl Stream<Item = AppendEntriesRequest<Types>> + Unpin + 'static,
        ttl: Duration,
        timed_out: RPCError<Types>,
    ) -> Self {
        let AppendStream { requests, results } = stream;
        let pending = Rc::new(Cell::new(0));
        let sent = pending.clone();
        let pump = async move {
            while let Some(request) = input.next().await {
                sent.set(sent.get() + 1);
                if requests.send(request).await.is_err() {
                    // The stream broke: the results end without the pending ones.
                    return std::future::pending().await;
                }
            }
        };
        let results = futures_lite::stream::unfold(results, |mut results| async move {
            results.recv().await.map(|result| (result, results))
        });
        Self {
            pump: Some(Box::pin(pump)),
            results: Box::pin(results),
            pending,
            deadline: None,
            ttl,
            timed_out: Some(timed_out),
        }
    }
}

impl Stream for Appends {
    type Item = RpcResult<StreamAppendResult<Types>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.timed_out.is_none() {
            return Poll::Ready(None);
        }
        if this.pump.as_mut().is_some_and(|pump| pump.as_mut().poll(context).is_ready()) {
            this.pump = None;
        }
        match this.results.as_mut().poll_next(context) {
            Poll::Ready(Some(result)) => {
                this.deadline = None;
                this.pending.set(this.pending.get().saturating_sub(1));
                return Poll::Ready(Some(Ok(result)));
            }
            Poll::Ready(None) => {
                this.timed_out = None;
                let whole = this.pump.is_none() && this.pending.get() == 0;
                let broken = NetworkError::from_string("the stream of appends broke");
                return Poll::Ready((!whole).then(|| Err(broken.into())));
            }
            Poll::Pending => {}
        }
        if this.pending.get() == 0 {
            this.deadline = None;
            return Poll::Pending;
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(LocalRuntime::sleep(this.ttl)));
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(this.timed_out.take().map(Err));
        }
        Poll::Pending
    }
}
