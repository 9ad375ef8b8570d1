//! The client on tokio. A [`Client`] is a cheap handle. Each connection belongs to a task. For
//! every partition in use there is one to the leader, and one to each follower that is read from.

mod link;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::tokio::sync::{mpsc, oneshot};
use ::tokio::time::{Instant, timeout};

use crate::frame::{Kind, RequestId, encode_unsealed};
use crate::message::{IdNamespace, Subscribe};
use crate::model::{Account, AccountId, EventBytes, EventId, NameText, Offset, PartitionId, Token};

use self::link::{Command, FeedItem, LinkTask, Waiter};
use super::directory::{Lane, Route};
use super::methods::methods;
use super::operation::{self, Answer, Call, Finish, Plan, Reading, WriteIds};
use super::shared::Shared;
use super::{
    AccountsAt, AccountsPage, AdminOutcome, Batch, CLUSTER_STATUS_WAIT, ClientError, ClusterInfo,
    ClusterReport, Config, DescribedLedger, EntriesToImport, EventDecision, IdVerdict,
    ImportedSome, NamesPage, PIPELINE_DEPTH_DEFAULT, Page, ReadFrom, ReservationsPage,
    SUBSCRIPTION_CREDIT_BYTES, ServerReport, StateSummary, Submitted,
};

/// Most commands that wait for a link's task.
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
    /// Connects and learns what the cluster is. Fails at once if there is no server. A connection
    /// that is lost later is made again, until a call's deadline.
    pub async fn connect(config: Config) -> Result<Self, ClientError> {
        let (deadline, read_from) = (config.deadline, config.read_from);
        let shared = Arc::new(Shared::new(config));
        let common = Arc::new(Common { shared, started: Instant::now() });
        let inner = Inner { common: common.clone(), links: Mutex::default() };
        let client = Self { inner: Arc::new(inner), read_from };
        let (waiter, greeted) = oneshot::channel();
        let greet = Command::Greet { deadline: common.now() + deadline, waiter };
        let link = client.link(PartitionId(0), Lane::Leader);
        link.send(greet).await.map_err(|_| ClientError::Closed)?;
        greeted.await.map_err(|_| ClientError::Closed)??;
        Ok(client)
    }

    /// What the cluster is.
    ///
    /// # Panics
    /// Never: a client exists only once it knows.
    pub fn info(&self) -> &ClusterInfo {
        self.inner.common.shared.info.get().expect("connect has waited for the greeting")
    }

    /// A client over the same connections, whose reads and subscriptions are answered elsewhere.
    #[must_use]
    pub fn reading(&self, read_from: ReadFrom) -> Self {
        Self { inner: self.inner.clone(), read_from }
    }

    /// The log from `from` on, as it grows, from where reads are answered. Nothing is sent before
    /// the first [`Subscription::next`].
    pub fn subscribe(&self, partition: PartitionId, from: Offset) -> Subscription {
        Subscription { client: self.clone(), partition, next: from, feed: None }
    }

    fn wants<'a>(&self, tokens: &'a [Token]) -> Reading<'a> {
        Reading { from: self.read_from, tokens }
    }

    fn deadline(&self) -> Duration {
        self.inner.common.shared.config.deadline
    }

    /// How many addresses the caller named.
    fn addresses(&self) -> usize {
        self.inner.common.shared.config.addresses.len()
    }

    /// Remembers where nodes are.
    fn know(&self, nodes: &[(u64, String)]) {
        let mut directory = self.inner.common.shared.directory();
        for (id, address) in nodes {
            directory.know(*id, address);
        }
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

    async fn send(&self, call: Call, deadline: Duration) -> Result<Waiting, ClientError> {
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

    /// Sends a plan's calls, to all partitions at once.
    async fn launch<R>(&self, plan: Plan<R>, deadline: Duration) -> Result<Flight<R>, ClientError> {
        let mut waiting = Vec::with_capacity(plan.calls.len());
        for call in plan.calls {
            waiting.push(self.send(call, deadline).await?);
        }
        Ok(Flight { waiting, finish: plan.finish })
    }

    async fn run<R>(&self, plan: Plan<R>) -> Result<R, ClientError> {
        self.launch(plan, self.deadline()).await?.land().await
    }

    /// As [`Self::run`], by the deadline of a call that began at `since`.
    async fn run_since<R>(&self, since: Instant, plan: Plan<R>) -> Result<R, ClientError> {
        let rest = self.deadline().saturating_sub(since.elapsed());
        self.launch(plan, rest).await?.land().await
    }

    /// How to ask again for what was not found: that a node does not know an id says only that it may
    /// lag. `None`: the leader has just been asked, and it was sure.
    fn confirming<'a>(&self, tokens: &'a [Token]) -> Option<Reading<'a>> {
        let from = ReadFrom::Linearizable;
        (self.read_from != from).then_some(Reading { from, tokens })
    }

    /// Asks nodes what they know of the cluster, all at once. Those that do not answer are left out.
    async fn ask_nodes(&self, routes: &[(PartitionId, Route)], views: &mut Views) {
        let wait = CLUSTER_STATUS_WAIT.min(self.deadline());
        let mut flights = Vec::new();
        for &(partition, route) in routes {
            let status = match operation::view_of(partition, route) {
                Ok(plan) => self.launch(plan, wait).await,
                Err(error) => Err(error),
            };
            let troubles = match operation::troubles_of(partition, route) {
                Ok(plan) => self.launch(plan, wait).await.ok(),
                Err(_) => None,
            };
            flights.push((status, troubles));
        }
        for (status, troubles) in flights {
            let view = match status {
                Ok(flight) => flight.land().await,
                Err(error) => Err(error),
            };
            match view {
                Ok(mut view) => {
                    if let Some(flight) = troubles {
                        view.set_troubles(flight.land().await.unwrap_or_default());
                    }
                    views.found.push(view);
                }
                Err(error) => views.failed = views.failed.take().or(Some(error)),
            }
        }
    }

    /// A write has most of the deadline to be answered. Its ids' verdicts are asked for in the
    /// rest.
    async fn write(
        &self,
        plan: Plan<Submitted>,
        ids: impl FnOnce() -> WriteIds,
    ) -> Result<Submitted, ClientError> {
        let flight = self.launch(plan, operation::write_share(self.deadline())).await;
        self.land_write(flight, ids).await
    }

    async fn land_write(
        &self,
        flight: Result<Flight<Submitted>, ClientError>,
        ids: impl FnOnce() -> WriteIds,
    ) -> Result<Submitted, ClientError> {
        let result = match flight {
            Ok(flight) => flight.land().await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if operation::is_open(&error) => self.resolve(&ids()).await,
            result => result,
        }
    }

    async fn resolve(&self, ids: &WriteIds) -> Result<Submitted, ClientError> {
        let waited = self.deadline();
        let unknown = ClientError::OutcomeUnknown { waited };
        let Ok(plan) = operation::resolve(self.info(), ids) else { return Err(unknown) };
        let rest = waited.saturating_sub(operation::write_share(waited));
        let Ok(flight) = self.launch(plan, rest).await else { return Err(unknown) };
        flight.land().await.ok().flatten().ok_or(unknown)
    }

    async fn launch_events(
        &self,
        partition: PartitionId,
        events: &[EventBytes],
    ) -> Result<Flight<Submitted>, ClientError> {
        let is_old = self.inner.common.shared.is_old.load(Ordering::Relaxed);
        let submit = if is_old { operation::submit_here } else { operation::submit };
        let plan = submit(self.info(), partition, events)?;
        self.launch(plan, operation::write_share(self.deadline())).await
    }

    /// `since`: when the call began.
    async fn land_events(
        &self,
        partition: PartitionId,
        events: &[EventBytes],
        flight: Result<Flight<Submitted>, ClientError>,
        since: Instant,
    ) -> Result<Submitted, ClientError> {
        let ids = || WriteIds::of_events(partition, events, self.info());
        let mut landed = self.land_write(flight, ids).await;
        if landed.as_ref().is_err_and(operation::is_unknown_kind) {
            self.inner.common.shared.is_old.store(true, Ordering::Relaxed);
            let flight = self.launch_events(partition, events).await;
            landed = self.land_write(flight, ids).await;
        }
        let mut result = landed?;
        let mut asked = Vec::new();
        for partition in operation::lacking(self.info(), events, &result) {
            // The outcome is known, whether that one answers or not.
            let Ok(plan) = operation::newest_token(self.info(), partition) else { continue };
            let rest = self.deadline().saturating_sub(since.elapsed());
            asked.extend(self.launch(plan, rest).await);
        }
        for flight in asked {
            if let Ok(Some(token)) = flight.land().await {
                result.add_token(token);
            }
        }
        Ok(result)
    }
}

/// The methods as they are written.
macro_rules! as_written {
    ($($table:tt)*) => { $($table)* };
}

methods!(as_written);

type Waiting = oneshot::Receiver<Result<Answer, ClientError>>;

/// What nodes said of the cluster.
#[derive(Default)]
struct Views {
    found: Vec<operation::ClusterView>,
    /// The first error.
    failed: Option<ClientError>,
}

/// A plan whose calls are sent and not yet answered.
struct Flight<R> {
    waiting: Vec<Waiting>,
    finish: Finish<R>,
}

impl<R> Flight<R> {
    /// Waits for the answers.
    async fn land(self) -> Result<R, ClientError> {
        let mut answers = Vec::with_capacity(self.waiting.len());
        for answer in self.waiting {
            answers.push(answer.await.map_err(|_| ClientError::Closed)??);
        }
        (self.finish)(answers)
    }
}

/// The log of a partition as it grows. A lost connection or node does not end it: it resumes where
/// it was, so that pages neither repeat nor leave out a record. Ends when it is dropped. Cancelling
/// [`Subscription::next`] loses nothing.
pub struct Subscription {
    client: Client,
    partition: PartitionId,
    next: Offset,
    feed: Option<Feed>,
}

/// A subscription on one connection.
struct Feed {
    lane: Lane,
    link: mpsc::Sender<Command>,
    items: mpsc::UnboundedReceiver<FeedItem>,
    /// Credit for the page that was given out last.
    owed: Option<(RequestId, u64)>,
}

impl Subscription {
    /// Where the next page starts.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Why there is no connection now. It is made anew all the time; `None` while it is open.
    pub fn trouble(&self) -> Option<ClientError> {
        let feed = self.feed.as_ref()?;
        self.client.inner.common.shared.trouble(self.partition, feed.lane)
    }

    async fn next_page(&mut self) -> Result<Page, ClientError> {
        loop {
            let feed = match &mut self.feed {
                Some(feed) => feed,
                none => none.insert(start(&self.client, self.partition, self.next).await?),
            };
            // Credit is given when the next page is wanted, so that a slow reader is not flooded.
            if let Some((request, bytes)) = feed.owed {
                let credit = Command::Credit { request, bytes };
                feed.link.send(credit).await.map_err(|_| ClientError::Closed)?;
                feed.owed = None;
            }
            match feed.items.recv().await {
                Some(FeedItem::Page { request, body }) => {
                    let page = Page::from_body(&body)?;
                    self.next = self.next.max(page.next_offset);
                    feed.owed = Some((request, page.bytes.len() as u64));
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
}

/// Subscribes, on a connection that is chosen anew each time.
async fn start(client: &Client, partition: PartitionId, from: Offset) -> Result<Feed, ClientError> {
    let mut frame = Vec::new();
    let subscribe = Subscribe { from: from.0, credit_bytes: SUBSCRIPTION_CREDIT_BYTES };
    encode_unsealed(&mut frame, Kind::Subscribe, partition, &subscribe)?;
    let (sender, items) = mpsc::unbounded_channel();
    let command = Command::Call {
        kind: Kind::Subscribe,
        frame,
        deadline: Duration::MAX,
        waiter: Waiter::Stream(sender),
    };
    let lane = client.lane(partition, client.wants(&[]).route());
    let link = client.link(partition, lane);
    link.send(command).await.map_err(|_| ClientError::Closed)?;
    Ok(Feed { lane, link, items, owed: None })
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(mut feed) = self.feed.take() else { return };
        // By this the link finds out which subscription has ended.
        feed.items.close();
        // A link whose commands are full finds out with the next page.
        let _ = feed.link.try_send(Command::Unsubscribe);
    }
}
