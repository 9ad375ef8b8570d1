//! A peer as openraft's network. openraft makes one for each task that talks to a peer; all of them
//! share the transport. Lives on the group's shard.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{Stream, StreamExt, stream};
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
use openraft::{AsyncRuntime, Instant, RaftNetworkFactory, RaftNetworkV2};

use crate::honest::{self, Dishonest};
use crate::reached::Reached;
use crate::runtime::{LocalInstant, LocalRuntime};
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
    patience: Rc<Patience>,
}

impl<T: Transport> RaftNetworkFactory<Types> for Peers<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Peer<T> {
        let (transport, reached) = (self.transport.clone(), self.reached.clone());
        let (node, member, patience) = (self.node, member.clone(), Rc::default());
        Peer { node, target, member, transport, reached, patience }
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
                self.reached.told(node, &why);
                Err(rpc_error(&TransportError::SetBack(node, why)))
            }
            Ok(answer) => answer.map_err(|error| rpc_error(&error)),
            Err(_) => Err(self.timed_out(action, ttl)),
        }
    }
}

/// A peer whose log has lost what it had or seems to have, or that takes none of it, counts as one that can't
/// be reached.
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

/// The peer has stored fewer entries than it was sent: more than a frame holds, or such as it could not tell yet
/// where they belong. openraft takes every success for that of the whole request, and would wait for the rest without
/// end, so the stream breaks: then it is sent again.
fn taken_in_part() -> RPCError<Types> {
    NetworkError::from_string("the peer has taken a part of an append").into()
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
        let asked = self.reached.asks(self.target);
        let request = Request::Append(rpc);
        match self.call(RPCTypes::AppendEntries, option.hard_ttl(), request).await? {
            Response::Append(AppendEntriesResponse::Conflict) => {
                set_back(self.reached.check_conflict(asked, term, conflict))?;
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
            // One process answers on a stream, and a process loses nothing of its log: this will do for all
            // that the stream asks.
            let asked = self.reached.asks(self.target);
            let open = self.transport.open(self.target, self.member.clone());
            let opened: TimeoutOf<Types, _, _> = LocalRuntime::timeout(ttl, open);
            let Ok(opened) = opened.await else {
                return Err(self.timed_out(RPCTypes::AppendEntries, ttl));
            };
            let timed_out = self.timed_out(RPCTypes::AppendEntries, ttl);
            // A stream is of one leader.
            let (term, sent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
            // Where each request ends that is not answered yet.
            let ends = Rc::new(RefCell::new(VecDeque::new()));
            let (of, to, each) = (term.clone(), sent.clone(), ends.clone());
            let input = input.inspect(move |request| {
                of.set(request.vote.leader_id.term);
                let last = request.entries.last().map(|entry| entry.log_id);
                let last = last.or(request.prev_log_id).map(|id| id.index);
                to.set(to.get().max(last));
                each.borrow_mut().push_back(last);
            });
            let opened = opened.map_err(|error| rpc_error(&error))?;
            let appends = Appends::new(opened, input, ttl, timed_out, self.patience.clone());
            let (reached, target) = (self.reached.clone(), self.target);
            let check = move |result: RpcResult<StreamAppendResult<Types>>| {
                // The stream ends; the next one begins when the node takes entries again.
                set_back(reached.takes_entries(target))?;
                match &result {
                    Ok(Ok(Some(last))) => {
                        believed(honest::confirmed(Some(last), sent.get()), target)?;
                        reached.acknowledged(target, term.get(), last.index + 1);
                    }
                    Ok(Err(StreamAppendError::Conflict(lacks))) => {
                        set_back(reached.check_conflict(asked, term.get(), lacks.index))?;
                    }
                    Ok(Err(StreamAppendError::HigherVote(vote))) => {
                        believed(honest::term(vote.leader_id.term, term.get()), target)?;
                    }
                    _ => {}
                }
                result
            };
            let heard = appends.flat_map(move |result| {
                let end = ends.borrow_mut().pop_front().flatten();
                let is_part = matches!(&result, Ok(Ok(taken)) if taken.map(|id| id.index) < end);
                let rest = is_part.then(|| Err(taken_in_part()));
                stream::iter([Some(check(result)), rest].into_iter().flatten())
            });
            Ok::<BoxStream<'s, _>, _>(Box::pin(heard))
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        let term = rpc.vote.leader_id.term;
        let asked = self.reached.asks(self.target);
        match self.call(RPCTypes::Vote, option.hard_ttl(), Request::Vote(rpc)).await? {
            Response::Vote(response) => {
                believed(honest::term(response.vote.leader_id.term, term), self.target)?;
                set_back(self.reached.check(asked, response.last_log_id))?;
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
        let asked = self.reached.asks(self.target);
        match self.call(RPCTypes::Vote, option.hard_ttl(), Request::PreVote(rpc)).await? {
            Response::PreVote(response) => {
                believed(honest::term(response.vote.leader_id.term, term), self.target)?;
                set_back(self.reached.check(asked, response.last_log_id))?;
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

/// Longest time for which an append that was sent is waited for.
const APPEND_PATIENCE_MAX: Duration = Duration::from_secs(10);

/// How long a peer is given to answer an append. openraft names a heartbeat's interval. A peer that needs longer, for
/// its disk or its processor, would never be heard: whatever it answers is too late, and it is asked the same again
/// for ever. So the time doubles whenever it was not enough, until the peer answers within the first one again.
#[derive(Default)]
struct Patience {
    /// How often in a row it was not enough.
    late: Cell<u32>,
}

impl Patience {
    fn lasts(&self, ttl: Duration) -> Duration {
        let longer = ttl.saturating_mul(1_u32.checked_shl(self.late.get()).unwrap_or(u32::MAX));
        longer.min(APPEND_PATIENCE_MAX).max(ttl)
    }

    fn ended(&self, ttl: Duration) {
        if self.lasts(ttl) < APPEND_PATIENCE_MAX {
            self.late.set(self.late.get() + 1);
        }
    }

    fn answered(&self, ttl: Duration, after: Duration) {
        if after <= ttl {
            self.late.set(0);
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
    /// While something is pending: since when the next result is waited for, and when it must have arrived.
    deadline: Option<(LocalInstant, Pin<Box<SleepOf<Types>>>)>,
    ttl: Duration,
    patience: Rc<Patience>,
    /// `None` once the stream has ended.
    timed_out: Option<RPCError<Types>>,
}

impl Appends {
    fn new(
        stream: AppendStream,
        mut input: impl Stream<Item = AppendEntriesRequest<Types>> + Unpin + 'static,
        ttl: Duration,
        timed_out: RPCError<Types>,
        patience: Rc<Patience>,
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
            patience,
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
                if let Some((since, _)) = this.deadline.take() {
                    this.patience.answered(this.ttl, LocalInstant::now() - since);
                }
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
        let (_, deadline) = this.deadline.get_or_insert_with(|| {
            let lasts = this.patience.lasts(this.ttl);
            (LocalInstant::now(), Box::pin(LocalRuntime::sleep(lasts)))
        });
        if deadline.as_mut().poll(context).is_ready() {
            this.patience.ended(this.ttl);
            return Poll::Ready(this.timed_out.take().map(Err));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use openraft::async_runtime::Mpsc;
    use openraft::impls::leader_id_std::LeaderId;
    use openraft::vote::RaftLeaderId as _;

    use super::*;
    use crate::executor::Runtime;
    use crate::runtime::{enter, within};
    use crate::runtime_glommio::GlommioRuntime;
    use crate::types::{Entry, LogId, Payload};

    type Channels = <LocalRuntime as AsyncRuntime>::Mpsc;

    const TTL: Duration = Duration::from_millis(20);
    /// How long anything may take.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// A peer that answers every append, each so long after it has come, and says of itself that it has stored this.
    #[derive(Clone)]
    struct Takes {
        after: Duration,
        stored: fn(&AppendEntriesRequest<Types>) -> Option<LogId>,
    }

    impl Transport for Takes {
        fn call(
            &self,
            _: NodeId,
            _: Member,
            _: Request,
        ) -> impl Future<Output = Result<Response, TransportError>> + 'static {
            pending()
        }

        fn open(
            &self,
            _: NodeId,
            _: Member,
        ) -> impl Future<Output = Result<AppendStream, TransportError>> + 'static {
            let (Self { after, stored }, runtime) = (self.clone(), GlommioRuntime::new());
            async move {
                let (requests, mut sent) = Channels::channel(1);
                let (told, results) = Channels::channel(1);
                runtime.spawn(within(runtime, async move {
                    while let Some(append) = sent.recv().await {
                        runtime.sleep(after).await;
                        let _ = told.send(Ok(stored(&append))).await; // or it is too late
                    }
                }));
                Ok(AppendStream { requests, results })
            }
        }
    }

    /// Asks a peer until its answer is heard.
    async fn hear(peer: &mut Peer<Takes>) {
        for asked in 1.. {
            let vote = Vote::new(1, 1);
            let append = AppendEntriesRequest {
                vote,
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            };
            let input = Box::pin(stream::once(append));
            let mut results = peer.stream_append(input, RPCOption::new(TTL)).await.unwrap();
            match results.next().await.unwrap() {
                Ok(_) => return,
                Err(error) => assert!(matches!(error, RPCError::Timeout(_)), "{error}"),
            }
            assert!(asked < 12, "it is never heard");
        }
    }

    /// The fault: a follower that needed longer than a heartbeat's interval for what a new leader asked first was
    /// asked the same again for ever, and with two of three nodes alive nothing was committed any more.
    #[test]
    fn a_peer_that_needs_longer_than_openraft_allows_is_heard_all_the_same() {
        glommio::LocalExecutor::default().run(async {
            let _entered = enter(GlommioRuntime::new());
            let transport = Takes { after: 5 * TTL, stored: |_| None };
            let mut peers = Peers { node: 1, transport, reached: Reached::default() };
            let mut peer = peers.new_client(2, &Member::default()).await;
            hear(&mut peer).await;
        });
    }

    /// The fault: what openraft had sent it took for stored, and waited for the rest for ever if nothing came after it.
    #[test]
    fn a_stream_of_which_a_part_is_taken_breaks_and_that_part_counts() {
        glommio::LocalExecutor::default().run(async {
            let _entered = enter(GlommioRuntime::new());
            let entry = |index| Entry {
                log_id: LogId::new(LeaderId::new(1, 1).to_committed(), index),
                payload: Payload::Blank,
            };
            for (sent, taken) in [(1, vec![true]), (3, vec![true, false])] {
                let append = AppendEntriesRequest {
                    vote: Vote::new_committed(1, 1),
                    prev_log_id: None,
                    entries: (0..sent).map(entry).collect(),
                    leader_commit: None,
                };
                let transport = Takes {
                    after: Duration::ZERO,
                    stored: |append| append.entries.first().map(|first| first.log_id),
                };
                let mut peers = Peers { node: 1, transport, reached: Reached::default() };
                let mut peer = peers.new_client(2, &Member::default()).await;
                // It goes on after this one, as a leader's does.
                let input = Box::pin(stream::once(append).chain(stream::pending()));
                let mut results = peer.stream_append(input, RPCOption::new(TTL)).await.unwrap();
                for counts in taken {
                    let heard: TimeoutOf<Types, _, _> =
                        LocalRuntime::timeout(PATIENCE, results.next());
                    let result = heard.await.expect("it waits for the rest").unwrap();
                    assert_eq!(result.is_ok(), counts, "of {sent} entries: {result:?}");
                }
            }
        });
    }

    /// A peer whose log ends in front of the second entry, and of which other things become known meanwhile.
    #[derive(Clone)]
    struct Talked {
        of: Reached,
        entries: u64,
    }

    impl Transport for Talked {
        fn call(
            &self,
            node: NodeId,
            _: Member,
            request: Request,
        ) -> impl Future<Output = Result<Response, TransportError>> + 'static {
            self.of.note(node, self.entries);
            let last = Some(LogId::new(LeaderId::new(1, 1).to_committed(), 0));
            let answer = |vote| VoteResponse::new(vote, last, true);
            ready(Ok(match request {
                Request::Vote(vote) => Response::Vote(answer(vote.vote)),
                Request::PreVote(vote) => Response::PreVote(answer(vote.vote)),
                _ => Response::Append(AppendEntriesResponse::Conflict),
            }))
        }

        fn open(
            &self,
            node: NodeId,
            _: Member,
        ) -> impl Future<Output = Result<AppendStream, TransportError>> + 'static {
            ready(Err(TransportError::Unreachable(node)))
        }
    }

    /// Whether the peer's answer counts, and whether the peer is still spoken to.
    async fn ask(of: &Reached, kind: &str, entries: u64) -> (bool, bool) {
        let transport = Talked { of: of.clone(), entries };
        let mut peers = Peers { node: 1, transport, reached: of.clone() };
        let mut peer = peers.new_client(2, &Member::default()).await;
        let (vote, option) = (VoteRequest::new(Vote::new(1, 1), None), RPCOption::new(TTL));
        let lacks = Some(LogId::new(LeaderId::new(1, 1).to_committed(), 1));
        let append = AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: lacks,
            entries: Vec::new(),
            leader_commit: None,
        };
        let counts = match kind {
            "vote" => peer.vote(vote, option).await.is_ok(),
            "pre-vote" => peer.pre_vote(vote, option).await.is_ok(),
            _ => peer.append_entries(append, option).await.is_ok(),
        };
        (counts, of.admits(2).is_ok())
    }

    #[test]
    fn an_answer_that_was_under_way_condemns_no_peer_and_does_not_count() {
        glommio::LocalExecutor::default().run(async {
            let _entered = enter(GlommioRuntime::new());
            for kind in ["vote", "pre-vote", "append"] {
                let of = Reached::default();
                assert_eq!(ask(&of, kind, 1).await, (true, true), "{kind}: it has that");
                assert_eq!(ask(&of, kind, 2).await, (false, true), "{kind}: which was first?");
                assert_eq!(ask(&of, kind, 2).await, (false, false), "{kind}: asked after that");
            }
        });
    }

    #[test]
    fn patience_grows_to_its_end_and_is_as_before_once_a_peer_is_quick() {
        let patience = Patience::default();
        let mut lasted = Vec::new();
        for _ in 0..100 {
            lasted.push(patience.lasts(TTL));
            patience.ended(TTL);
        }
        assert_eq!(lasted[..4], [TTL, 2 * TTL, 4 * TTL, 8 * TTL]);
        assert_eq!(lasted[99], APPEND_PATIENCE_MAX);
        patience.answered(TTL, 2 * TTL);
        assert_eq!(patience.lasts(TTL), APPEND_PATIENCE_MAX, "it is not quick yet");
        patience.answered(TTL, TTL);
        assert_eq!(patience.lasts(TTL), TTL);
        let long = 2 * APPEND_PATIENCE_MAX;
        assert_eq!(patience.lasts(long), long, "never less than openraft allows");
    }
}
