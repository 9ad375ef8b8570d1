//! The client on tokio. A [`Client`] is a cheap handle; a task owns each connection: one for each
//! partition that was asked for to its leader, and one to each follower that reads go to.

mod link;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::tokio::sync::{mpsc, oneshot};
use ::tokio::time::{Instant, timeout};

use crate::frame::{Kind, RequestId};
use crate::message::{IdNamespace, Subscribe};
use crate::model::{Account, AccountId, EventBytes, EventId, Offset, PartitionId, Token};

use self::link::{Command, FeedItem, LinkTask, Waiter};
use super::directory::{Lane, Route};
use super::operation::{self, Answer, Call, Plan, Reading, WriteIds};
use super::shared::Shared;
use super::{
    AccountsPage, AdminOutcome, Batch, CLUSTER_STATUS_WAIT, ClientError, ClusterInfo,
    ClusterReport, Config, EventDecision, IdVerdict, Page, ReadFrom, SUBSCRIPTION_CREDIT_BYTES,
    ServerReport, Submitted,
};

/// Commands that wait for a link's task.
const COMMANDS_MAX: usize = 64;

/// What handles and links share.
struct Common {
    shared: Arc<Shared>,
    started: Instant,
}

impl Common {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What the clones of a handle share.
struct Inner {
    common: Arc<Common>,
    links: Mutex<Vec<(PartitionId, Lane, mpsc::Sender<Command>)>>,
}

/// Handle to a cluster. Clones share its connections; the last one closes them.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    read_from: ReadFrom,
}

impl Client {
    /// Connects and learns what the cluster is. Fails at once if there is no server; later, lost
    /// connections are made anew until a call's deadline.
    pub async fn connect(config: Config) -> Result<Self, ClientError> {
        let (deadline, read_from) = (config.deadline, config.read_from);
        let shared = Arc::new(Shared::new(config));
        let common = Common { shared, started: Instant::now() };
        let inner = Inner { common: Arc::new(common), links: Mutex::default() };
        let client = Self { inner: Arc::new(inner), read_from };
        let (greeted, answer) = oneshot::channel();
        let link = client.link(PartitionId(0), Lane::Leader);
        link.send(Command::Greet(greeted)).await.map_err(|_| ClientError::Closed)?;
        let Ok(answer) = timeout(deadline, answer).await else {
            let reason = "the server did not greet".to_owned();
            return Err(ClientError::Deadline { waited: deadline, reason });
        };
        answer.map_err(|_| ClientError::Closed)??;
        Ok(client)
    }

    /// What the cluster is.
    ///
    /// # Panics
    /// Never: a client exists only once it knows.
    pub fn info(&self) -> &ClusterInfo {
        self.inner.common.shared.info.get().expect("connect has waited for the greeting")
    }

    /// The same client, whose reads and subscriptions are answered elsewhere. Shares its
    /// connections.
    #[must_use]
    pub fn reading(&self, read_from: ReadFrom) -> Self {
        Self { inner: self.inner.clone(), read_from }
    }

    fn wants<'a>(&self, tokens: &'a [Token]) -> Reading<'a> {
        Reading { from: self.read_from, tokens }
    }

    fn deadline(&self) -> Duration {
        self.inner.common.shared.config.deadline
    }

    fn lane(&self, partition: PartitionId, route: Route) -> Lane {
        let common = &self.inner.common;
        common.shared.lane(partition, route, common.now())
    }

    fn link(&self, partition: PartitionId, lane: Lane) -> mpsc::Sender<Command> {
        let mut links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = links.iter();
        if let Some((.., link)) = known.find(|one| (one.0, one.1) == (partition, lane)) {
            return link.clone();
        }
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let task = LinkTask::new(self.inner.common.clone(), partition, lane, inbox);
        ::tokio::spawn(task.run());
        links.push((partition, lane, commands.clone()));
        commands
    }

    async fn send(
        &self,
        call: Call,
        deadline: Duration,
    ) -> Result<oneshot::Receiver<Result<Answer, ClientError>>, ClientError> {
        let (waiter, answer) = oneshot::channel();
        let command = Command::Call {
            kind: call.kind,
            frame: call.frame,
            deadline: self.inner.common.now() + deadline,
            waiter: Waiter::Once(waiter),
        };
        let link = self.link(call.partition, self.lane(call.partition, call.route));
        let Ok(sent) = timeout(deadline, link.send(command)).await else {
            let reason = "too many requests were in flight".to_owned();
            return Err(ClientError::Deadline { waited: deadline, reason });
        };
        sent.map_err(|_| ClientError::Closed)?;
        Ok(answer)
    }

    async fn run_within<R>(&self, plan: Plan<R>, deadline: Duration) -> Result<R, ClientError> {
        let (calls, finish) = plan.into_parts();
        let mut waiting = Vec::with_capacity(calls.len());
        for call in calls {
            waiting.push(self.send(call, deadline).await?);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(answer.await.map_err(|_| ClientError::Closed)??);
        }
        finish(answers)
    }

    async fn run<R>(&self, plan: Plan<R>) -> Result<R, ClientError> {
        self.run_within(plan, self.deadline()).await
    }

    /// A write: what is not answered in most of the deadline is asked for in the rest.
    async fn write(
        &self,
        plan: Plan<Submitted>,
        ids: impl FnOnce() -> WriteIds,
    ) -> Result<Submitted, ClientError> {
        let share = operation::write_share(self.deadline());
        match self.run_within(plan, share).await {
            Err(error) if operation::is_open(&error) => self.resolve(&ids()).await,
            result => result,
        }
    }

    async fn resolve(&self, ids: &WriteIds) -> Result<Submitted, ClientError> {
        let waited = self.deadline();
        let rest = waited.saturating_sub(operation::write_share(waited));
        let known = match operation::resolve(self.info(), ids) {
            Ok(plan) => self.run_within(plan, rest).await.ok().flatten(),
            Err(_) => None,
        };
        known.ok_or(ClientError::OutcomeUnknown { waited })
    }

    /// Submits one batch to one partition. Sent again with the same ids when a connection is
    /// lost; a repeat gets the first verdict.
    pub async fn submit(
        &self,
        partition: PartitionId,
        events: &[EventBytes],
    ) -> Result<Submitted, ClientError> {
        let plan = operation::submit(self.info(), partition, events)?;
        self.write(plan, || WriteIds::of_events(partition, events)).await
    }

    /// Submits events of any partitions, and any number of them, split at partitions and limits
    /// and never inside a chain. The batches go at once, so an error leaves open what became of
    /// the others.
    pub async fn submit_all(&self, events: &[EventBytes]) -> Result<Submitted, ClientError> {
        let split = operation::split_by_partition(self.info(), events)?;
        let mut results = vec![Submitted::default(); split.batches.len()];
        let mut failed = None;
        let batches = split.batches.iter().cloned();
        self.submit_pipelined(
            batches,
            super::PIPELINE_DEPTH_DEFAULT,
            |index, result| match result {
                Ok(result) => results[index] = result,
                Err(error) => failed = Some(error),
            },
        )
        .await;
        match failed {
            Some(error) => Err(error),
            None => Ok(operation::merge(&split, &results)),
        }
    }

    /// Creates accounts; those that exist already with the same fields are repeats.
    pub async fn create_accounts(&self, accounts: &[Account]) -> Result<Submitted, ClientError> {
        let events: Vec<_> = accounts.iter().map(Account::to_bytes).collect();
        self.submit_all(&events).await
    }

    /// Submits many batches with up to `depth` in flight, and calls `done` for each in order.
    /// Batches of a partition are decided in order, unless the server was busy in between.
    pub async fn submit_pipelined(
        &self,
        batches: impl IntoIterator<Item = Batch>,
        depth: usize,
        mut done: impl FnMut(usize, Result<Submitted, ClientError>),
    ) {
        let mut flying = VecDeque::new();
        for (index, batch) in batches.into_iter().enumerate() {
            if flying.len() >= depth.max(1)
                && let Some((index, flight)) = flying.pop_front()
            {
                done(index, self.land(flight).await);
            }
            flying.push_back((index, self.launch(batch).await));
        }
        while let Some((index, flight)) = flying.pop_front() {
            done(index, self.land(flight).await);
        }
    }

    async fn launch(&self, batch: Batch) -> Result<Flight, ClientError> {
        let plan = operation::submit(self.info(), batch.partition, &batch.events)?;
        let (calls, finish) = plan.into_parts();
        let share = operation::write_share(self.deadline());
        let mut answers = Vec::new();
        for call in calls {
            answers.push(self.send(call, share).await?);
        }
        Ok(Flight { batch, answers, finish: Box::new(finish) })
    }

    async fn land(&self, flight: Result<Flight, ClientError>) -> Result<Submitted, ClientError> {
        let Flight { batch, answers, finish } = flight?;
        let mut bodies = Vec::new();
        for answer in answers {
            match answer.await.map_err(|_| ClientError::Closed)? {
                Ok(body) => bodies.push(body),
                Err(error) if operation::is_open(&error) => {
                    return self
                        .resolve(&WriteIds::of_events(batch.partition, &batch.events))
                        .await;
                }
                Err(error) => return Err(error),
            }
        }
        finish(bodies)
    }

    /// Appends opaque records to one partition. With `expected`, the first must get that offset,
    /// the second the next, and so on.
    pub async fn append_records(
        &self,
        partition: PartitionId,
        records: &[(EventId, &[u8])],
        expected: Option<Offset>,
    ) -> Result<Submitted, ClientError> {
        let plan = operation::append_records(self.info(), partition, records, expected)?;
        self.write(plan, || WriteIds::of_records(partition, records)).await
    }

    /// Accounts by id, in the order of `ids`; the state includes `tokens`.
    pub async fn lookup_accounts(
        &self,
        ids: &[AccountId],
        tokens: &[Token],
    ) -> Result<Vec<Option<Account>>, ClientError> {
        self.run(operation::lookup_accounts(self.info(), ids, self.wants(tokens))?).await
    }

    /// Transfers, guards and closes by id, in the order of `ids`. Asks every partition.
    pub async fn lookup_transfers(
        &self,
        ids: &[EventId],
        tokens: &[Token],
    ) -> Result<Vec<Option<EventDecision>>, ClientError> {
        self.run(operation::lookup_transfers(self.info(), ids, self.wants(tokens))?).await
    }

    /// Verdicts of ids, in their order. `None` says that the node which answers does not know the
    /// id, not that it was not decided: for that, read linearizably.
    pub async fn status(
        &self,
        namespace: IdNamespace,
        ids: &[u128],
        tokens: &[Token],
    ) -> Result<Vec<Option<IdVerdict>>, ClientError> {
        self.run(operation::status(self.info(), namespace, ids, self.wants(tokens))?).await
    }

    /// A page of a partition's accounts; `after` is `None` for the first page.
    pub async fn list_accounts(
        &self,
        partition: PartitionId,
        after: Option<u64>,
        limit: usize,
        tokens: &[Token],
    ) -> Result<AccountsPage, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::list_accounts(self.info(), partition, after, limit, reading)?).await
    }

    /// A page of a partition's log: the entry that holds `from` and those after it.
    pub async fn read_log(
        &self,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
        tokens: &[Token],
    ) -> Result<Page, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::read_log(self.info(), partition, from, bytes_max, reading)?).await
    }

    /// The server's account of itself, by the shard that serves `partition`.
    pub async fn server_status(&self, partition: PartitionId) -> Result<ServerReport, ClientError> {
        self.run(operation::server_status(partition)?).await
    }

    /// The cluster, by the account of the caller's node and of all leaders. Fails only if that
    /// node does not answer.
    pub async fn cluster_status(&self) -> Result<ClusterReport, ClientError> {
        let mut views = Vec::new();
        for partition in self.info().partitions() {
            views.push(self.run(operation::cluster_status(partition, Route::Home)?).await?);
        }
        for partition in operation::unasked_leaders(&views) {
            let plan = operation::cluster_status(partition, Route::Leader)?;
            let wait = CLUSTER_STATUS_WAIT.min(self.deadline());
            views.extend(self.run_within(plan, wait).await.ok());
        }
        Ok(operation::merge_views(&views))
    }

    /// Asks the partition's leader to let another node lead: `to`, or the one that it prefers.
    pub async fn transfer_leadership(
        &self,
        partition: PartitionId,
        to: Option<u64>,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::transfer_leadership(partition, to)?).await
    }

    /// Asks the partition's leader to take a node's replica out of the group.
    pub async fn remove_node(
        &self,
        partition: PartitionId,
        node: u64,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::remove_node(partition, node)?).await
    }

    /// Asks the caller's node to leave the cluster. Refused if it is not `node`.
    pub async fn leave(&self, node: u64) -> Result<AdminOutcome, ClientError> {
        self.run(operation::leave(node)?).await
    }

    /// The log from `from` on, as it grows, from where reads are answered. Nothing is sent before
    /// the first [`Subscription::next`].
    pub fn subscribe(&self, partition: PartitionId, from: Offset) -> Subscription {
        let client = self.clone();
        Subscription { client, partition, lane: None, next: from, feed: None, owed: None }
    }
}

/// A batch that was sent and not yet answered.
struct Flight {
    batch: Batch,
    answers: Vec<oneshot::Receiver<Result<Answer, ClientError>>>,
    finish: Box<dyn FnOnce(Vec<Answer>) -> Result<Submitted, ClientError> + Send>,
}

/// The log of a partition as it grows. Survives lost connections and nodes: it goes on where it was,
/// so that pages neither repeat nor leave out a record.
pub struct Subscription {
    client: Client,
    partition: PartitionId,
    /// The connection that it goes over; chosen anew after each loss.
    lane: Option<Lane>,
    next: Offset,
    feed: Option<mpsc::UnboundedReceiver<FeedItem>>,
    /// Credit for the page that was given out last.
    owed: Option<(RequestId, u64)>,
}

impl Subscription {
    /// Where the next page starts.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Waits for the next page, for ever if the log does not grow. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Page, ClientError> {
        loop {
            if self.feed.is_none() {
                self.owed = None;
                self.start().await?;
            }
            // A page is paid for when the next is wanted: a slow reader is not flooded.
            if let Some((request, bytes)) = self.owed {
                let link = self.link();
                let credit = Command::Credit { request, bytes };
                link.send(credit).await.map_err(|_| ClientError::Closed)?;
                self.owed = None;
            }
            let Some(feed) = &mut self.feed else { continue };
            match feed.recv().await {
                Some(FeedItem::Page { request, body }) => {
                    let page = Page::from_body(&body)?;
                    self.next = self.next.max(page.next_offset);
                    self.owed = Some((request, page.bytes.len() as u64));
                    return Ok(page);
                }
                Some(FeedItem::Failed(error)) => {
                    self.feed = None;
                    return Err(error);
                }
                Some(FeedItem::Lost) | None => self.feed = None,
            }
        }
    }

    async fn start(&mut self) -> Result<(), ClientError> {
        let mut frame = Vec::new();
        let subscribe = Subscribe { from: self.next.0, credit_bytes: SUBSCRIPTION_CREDIT_BYTES };
        crate::frame::encode_unsealed(&mut frame, Kind::Subscribe, self.partition, &subscribe)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let command = Command::Call {
            kind: Kind::Subscribe,
            frame,
            deadline: Duration::MAX,
            waiter: Waiter::Stream(sender),
        };
        self.lane = None;
        let link = self.link();
        link.send(command).await.map_err(|_| ClientError::Closed)?;
        self.feed = Some(receiver);
        Ok(())
    }

    fn link(&mut self) -> mpsc::Sender<Command> {
        let Self { client, partition, lane, .. } = self;
        let route = client.wants(&[]).route();
        let lane = *lane.get_or_insert_with(|| client.lane(*partition, route));
        client.link(*partition, lane)
    }
}
