//! The client on `std::net`, without a runtime and without threads of its own. Bytes move while a
//! method is being called, and only then.

mod link;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frame::{Kind, RequestId};
use crate::message::{IdNamespace, Subscribe};
use crate::model::{Account, AccountId, EventBytes, EventId, Offset, PartitionId, Token};

use self::link::BlockingLink;
use super::directory::{Lane, Route};
use super::operation::{self, Plan, Reading, WriteIds};
use super::shared::Shared;
use super::{
    AccountsPage, AdminOutcome, Batch, CLUSTER_STATUS_WAIT, ClientError, ClusterInfo,
    ClusterReport, Config, EventDecision, IdVerdict, Page, ReadFrom, SUBSCRIPTION_CREDIT_BYTES,
    ServerReport, Submitted,
};

/// What a client and its links share.
struct Common {
    shared: Arc<Shared>,
    started: Instant,
}

impl Common {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A cluster's client: a connection for each partition that was asked for to its leader, and one to
/// each follower that reads go to.
pub struct Client {
    common: Arc<Common>,
    info: ClusterInfo,
    read_from: ReadFrom,
    links: Vec<(PartitionId, Lane, BlockingLink)>,
}

impl Client {
    /// Connects and learns what the cluster is. Fails at once if there is no server; later, lost
    /// connections are made anew until a call's deadline.
    pub fn connect(config: Config) -> Result<Self, ClientError> {
        let read_from = config.read_from;
        let shared = Arc::new(Shared::new(config));
        let common = Arc::new(Common { shared, started: Instant::now() });
        let mut link = BlockingLink::new(common.clone(), PartitionId(0), Lane::Leader);
        let info = link.greet()?;
        Ok(Self { common, info, read_from, links: vec![(PartitionId(0), Lane::Leader, link)] })
    }

    /// What the cluster is.
    pub fn info(&self) -> &ClusterInfo {
        &self.info
    }

    /// From now on reads and subscriptions are answered there.
    pub fn read_from(&mut self, read_from: ReadFrom) {
        self.read_from = read_from;
    }

    fn wants<'a>(&self, tokens: &'a [Token]) -> Reading<'a> {
        Reading { from: self.read_from, tokens }
    }

    fn deadline(&self) -> Duration {
        self.common.shared.config.deadline
    }

    fn lane(&self, partition: PartitionId, route: Route) -> Lane {
        self.common.shared.lane(partition, route, self.common.now())
    }

    fn link(&mut self, partition: PartitionId, lane: Lane) -> &mut BlockingLink {
        let known = self.links.iter().position(|one| (one.0, one.1) == (partition, lane));
        let index = known.unwrap_or_else(|| {
            let link = BlockingLink::new(self.common.clone(), partition, lane);
            self.links.push((partition, lane, link));
            self.links.len() - 1
        });
        &mut self.links[index].2
    }

    fn run_within<R>(&mut self, plan: Plan<R>, deadline: Duration) -> Result<R, ClientError> {
        let (calls, finish) = plan.into_parts();
        let by = self.common.now() + deadline;
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let lane = self.lane(call.partition, call.route);
            let link = self.link(call.partition, lane);
            let number = link.start(call.kind, call.frame, by)?;
            answers.push(link.wait(number)?);
        }
        finish(answers)
    }

    fn run<R>(&mut self, plan: Plan<R>) -> Result<R, ClientError> {
        self.run_within(plan, self.deadline())
    }

    fn write(
        &mut self,
        plan: Plan<Submitted>,
        ids: impl FnOnce() -> WriteIds,
    ) -> Result<Submitted, ClientError> {
        match self.run_within(plan, operation::write_share(self.deadline())) {
            Err(error) if operation::is_open(&error) => self.resolve(&ids()),
            result => result,
        }
    }

    fn resolve(&mut self, ids: &WriteIds) -> Result<Submitted, ClientError> {
        let waited = self.deadline();
        let rest = waited.saturating_sub(operation::write_share(waited));
        let known = match operation::resolve(&self.info, ids) {
            Ok(plan) => self.run_within(plan, rest).ok().flatten(),
            Err(_) => None,
        };
        known.ok_or(ClientError::OutcomeUnknown { waited })
    }

    /// Submits one batch to one partition. Sent again with the same ids when a connection is
    /// lost; a repeat gets the first verdict.
    pub fn submit(
        &mut self,
        partition: PartitionId,
        events: &[EventBytes],
    ) -> Result<Submitted, ClientError> {
        let plan = operation::submit(&self.info, partition, events)?;
        self.write(plan, || WriteIds::of_events(partition, events))
    }

    /// Submits events of any partitions, and any number of them, split at partitions and limits
    /// and never inside a chain. An error leaves open what became of the other batches.
    pub fn submit_all(&mut self, events: &[EventBytes]) -> Result<Submitted, ClientError> {
        let split = operation::split_by_partition(&self.info, events)?;
        let mut results = vec![Submitted::default(); split.batches.len()];
        let mut failed = None;
        let batches = split.batches.iter().cloned();
        self.submit_many(batches, super::PIPELINE_DEPTH_DEFAULT, |index, result| match result {
            Ok(result) => results[index] = result,
            Err(error) => failed = Some(error),
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(operation::merge(&split, &results)),
        }
    }

    /// Creates accounts; those that exist already with the same fields are repeats.
    pub fn create_accounts(&mut self, accounts: &[Account]) -> Result<Submitted, ClientError> {
        let events: Vec<_> = accounts.iter().map(Account::to_bytes).collect();
        self.submit_all(&events)
    }

    /// Submits many batches with up to `depth` in flight, and calls `done` for each in order.
    /// Batches of a partition are decided in order, unless the server was busy in between.
    pub fn submit_many(
        &mut self,
        batches: impl IntoIterator<Item = Batch>,
        depth: usize,
        mut done: impl FnMut(usize, Result<Submitted, ClientError>),
    ) {
        let depth = depth.clamp(1, self.common.shared.config.inflight_max);
        let mut flying = std::collections::VecDeque::new();
        for (index, batch) in batches.into_iter().enumerate() {
            if flying.len() >= depth
                && let Some((index, flight)) = flying.pop_front()
            {
                done(index, self.land(flight));
            }
            flying.push_back((index, self.launch(batch)));
        }
        while let Some((index, flight)) = flying.pop_front() {
            done(index, self.land(flight));
        }
    }

    fn launch(&mut self, batch: Batch) -> Result<Flight, ClientError> {
        let plan = operation::submit(&self.info, batch.partition, &batch.events)?;
        let by = self.common.now() + operation::write_share(self.deadline());
        let (calls, finish) = plan.into_parts();
        let link = self.link(batch.partition, Lane::Leader);
        let mut numbers = Vec::with_capacity(calls.len());
        for call in calls {
            numbers.push(link.start(call.kind, call.frame, by)?);
        }
        link.nudge();
        Ok(Flight { batch, numbers, finish: Box::new(finish) })
    }

    fn land(&mut self, flight: Result<Flight, ClientError>) -> Result<Submitted, ClientError> {
        let Flight { batch, numbers, finish } = flight?;
        let mut answers = Vec::with_capacity(numbers.len());
        for number in numbers {
            match self.link(batch.partition, Lane::Leader).wait(number) {
                Ok(answer) => answers.push(answer),
                Err(error) if operation::is_open(&error) => {
                    return self.resolve(&WriteIds::of_events(batch.partition, &batch.events));
                }
                Err(error) => return Err(error),
            }
        }
        finish(answers)
    }

    /// Appends opaque records to one partition. With `expected`, the first must get that offset,
    /// the second the next, and so on.
    pub fn append_records(
        &mut self,
        partition: PartitionId,
        records: &[(EventId, &[u8])],
        expected: Option<Offset>,
    ) -> Result<Submitted, ClientError> {
        let plan = operation::append_records(&self.info, partition, records, expected)?;
        self.write(plan, || WriteIds::of_records(partition, records))
    }

    /// Accounts by id, in the order of `ids`; the state includes `tokens`.
    pub fn lookup_accounts(
        &mut self,
        ids: &[AccountId],
        tokens: &[Token],
    ) -> Result<Vec<Option<Account>>, ClientError> {
        self.run(operation::lookup_accounts(&self.info, ids, self.wants(tokens))?)
    }

    /// Transfers, guards and closes by id, in the order of `ids`. Asks every partition.
    pub fn lookup_transfers(
        &mut self,
        ids: &[EventId],
        tokens: &[Token],
    ) -> Result<Vec<Option<EventDecision>>, ClientError> {
        self.run(operation::lookup_transfers(&self.info, ids, self.wants(tokens))?)
    }

    /// Verdicts of ids, in their order. `None` says that the node which answers does not know the
    /// id, not that it was not decided: for that, read linearizably.
    pub fn status(
        &mut self,
        namespace: IdNamespace,
        ids: &[u128],
        tokens: &[Token],
    ) -> Result<Vec<Option<IdVerdict>>, ClientError> {
        self.run(operation::status(&self.info, namespace, ids, self.wants(tokens))?)
    }

    /// A page of a partition's accounts; `after` is `None` for the first page.
    pub fn list_accounts(
        &mut self,
        partition: PartitionId,
        after: Option<u64>,
        limit: usize,
        tokens: &[Token],
    ) -> Result<AccountsPage, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::list_accounts(&self.info, partition, after, limit, reading)?)
    }

    /// A page of a partition's log: the entry that holds `from` and those after it.
    pub fn read_log(
        &mut self,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
        tokens: &[Token],
    ) -> Result<Page, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::read_log(&self.info, partition, from, bytes_max, reading)?)
    }

    /// The server's account of itself, from the shard that serves `partition`.
    pub fn server_status(&mut self, partition: PartitionId) -> Result<ServerReport, ClientError> {
        self.run(operation::server_status(partition)?)
    }

    /// The cluster, by the account of the caller's node and of all leaders. Fails only if that
    /// node does not answer.
    pub fn cluster_status(&mut self) -> Result<ClusterReport, ClientError> {
        let mut views = Vec::new();
        for partition in self.info.partitions() {
            views.push(self.run(operation::cluster_status(partition, Route::Home)?)?);
        }
        for partition in operation::unasked_leaders(&views) {
            let plan = operation::cluster_status(partition, Route::Leader)?;
            let wait = CLUSTER_STATUS_WAIT.min(self.deadline());
            views.extend(self.run_within(plan, wait).ok());
        }
        Ok(operation::merge_views(&views))
    }

    /// Asks the partition's leader to let another node lead: `to`, or the one that it prefers.
    pub fn transfer_leadership(
        &mut self,
        partition: PartitionId,
        to: Option<u64>,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::transfer_leadership(partition, to)?)
    }

    /// Asks the partition's leader to take a node's replica out of the group.
    pub fn remove_node(
        &mut self,
        partition: PartitionId,
        node: u64,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::remove_node(partition, node)?)
    }

    /// Asks the caller's node to leave the cluster. Refused if it is not `node`.
    pub fn leave(&mut self, node: u64) -> Result<AdminOutcome, ClientError> {
        self.run(operation::leave(node)?)
    }

    /// The node at the caller's address.
    pub fn home_node(&mut self) -> Result<u64, ClientError> {
        let plan = operation::cluster_status(PartitionId(0), Route::Home)?;
        Ok(self.run(plan)?.node)
    }

    /// The log from `from` on, as it grows, from where reads are answered. Nothing is sent before
    /// the first [`Subscription::next`].
    pub fn subscribe(&mut self, partition: PartitionId, from: Offset) -> Subscription<'_> {
        let lane = self.lane(partition, self.wants(&[]).route());
        let link = self.link(partition, lane);
        Subscription { link, next: from, request: None, owed_bytes: 0 }
    }
}

/// A batch that was sent and not yet answered.
struct Flight {
    batch: Batch,
    numbers: Vec<u64>,
    finish: Box<dyn FnOnce(Vec<operation::Answer>) -> Result<Submitted, ClientError> + Send>,
}

/// The log of a partition as it grows. Survives lost connections and nodes: it goes on where it
/// was, so that pages neither repeat nor leave out a record. Ends when it is dropped.
pub struct Subscription<'client> {
    link: &'client mut BlockingLink,
    next: Offset,
    request: Option<RequestId>,
    owed_bytes: u64,
}

impl Subscription<'_> {
    /// Where the next page starts.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Waits for the next page, at most for `wait`; `None` if the log did not grow.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Page>, ClientError> {
        let by = self.link.now() + wait;
        loop {
            let request = self.start()?;
            // A page is paid for when the next is wanted: a slow reader is not flooded.
            if self.owed_bytes > 0 {
                self.link.credit(request, std::mem::take(&mut self.owed_bytes));
            }
            match self.link.next_page(request, by)? {
                Some(body) => {
                    let page = Page::from_body(&body)?;
                    self.next = self.next.max(page.next_offset);
                    self.owed_bytes = page.bytes.len() as u64;
                    return Ok(Some(page));
                }
                None if self.link.has(request) => return Ok(None),
                None => (self.request, self.owed_bytes) = (None, 0),
            }
            if self.link.now() >= by {
                return Ok(None);
            }
        }
    }

    fn start(&mut self) -> Result<RequestId, ClientError> {
        if let Some(request) = self.request {
            return Ok(request);
        }
        let mut frame = Vec::new();
        let subscribe = Subscribe { from: self.next.0, credit_bytes: SUBSCRIPTION_CREDIT_BYTES };
        let partition = self.link.partition();
        crate::frame::encode_unsealed(&mut frame, Kind::Subscribe, partition, &subscribe)?;
        let request = self.link.subscribe(frame)?;
        self.request = Some(request);
        Ok(request)
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.link.unsubscribe(request);
        }
    }
}
