//! A client of a simulated cluster: sends each batch to any node, under the same ids until it is
//! answered, and remembers the answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::{Oneshot, OneshotSender};
use walengine::ledger::{Outcome, Outcomes};
use walengine::partition::replica::Replica;
use walengine::refused::Refused;
use walengine::runtime::Runtime;
use walengine_net::model::{EventBytes, Offset, event_id};
use walengine_replication::runtime::{LocalRuntime, within};
use walengine_replication::types::NodeId;

use super::bugs::Bug;
use super::node::{Cluster, Place};
use crate::noted_writes::{Writer, accounts_of};
use crate::sim::{Rng, SimRuntime};

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// Longest pause before a batch is sent again.
const AGAIN_MICROS_MAX: u64 = 60_000;
/// Events in a batch: far fewer than the wire allows.
const EVENTS_MAX: usize = 24;

/// What clients were told: each id's first verdict and offset.
#[derive(Default)]
pub struct Told {
    outcomes: BTreeMap<u128, (EventBytes, Outcome)>,
    /// Answers, repeats included.
    pub answers: u64,
    /// Linearizable reads.
    pub reads: u64,
    /// First offset behind everything that was answered.
    behind: Offset,
}

impl Told {
    /// Every id that was answered, with its event and outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (&u128, &(EventBytes, Outcome))> {
        self.outcomes.iter()
    }

    /// Takes note of an answer to what was sent when everything below `since` had been answered.
    ///
    /// # Panics
    /// If one id was given two verdicts, or what is new was put before what was answered earlier.
    fn note(&mut self, event: &EventBytes, outcome: Outcome, since: Offset) {
        let Some(offset) = outcome.offset else { return }; // malformed, not remembered
        self.answers += 1;
        self.behind = self.behind.max(offset.plus(1));
        let first = self.outcomes.entry(event_id(event)).or_insert_with(|| {
            assert!(
                offset >= since,
                "{outcome:?} stands before {since}, which was answered before"
            );
            (*event, outcome)
        });
        if first.0 == *event {
            assert!(first.1 == outcome, "one id, two verdicts: {:?} and {outcome:?}", first.1);
        }
    }
}

/// See the module.
pub struct Client {
    cluster: Rc<Cluster>,
    root: SimRuntime,
    writer: Writer,
    rng: Rng,
    node: NodeId,
}

impl Client {
    /// A client that writes between the accounts of the cluster's partition.
    pub fn new(cluster: &Rc<Cluster>, root: &SimRuntime, mut rng: Rng) -> Self {
        let Place { partition, partitions } = cluster.place;
        let writer = Writer::new(rng.next_u64(), &accounts_of(partition, partitions));
        Self { cluster: cluster.clone(), root: root.clone(), writer, rng, node: 1 }
    }

    /// Sends one batch until it is answered, and notes the answer.
    pub async fn write(&mut self, told: &RefCell<Told>) {
        let mut events = self.writer.batch();
        events.truncate(EVENTS_MAX);
        self.send(&events, told).await;
    }

    /// Reads at the leader what is committed: at least all that anybody was told before.
    ///
    /// # Panics
    /// If the answer is older.
    pub async fn read(&mut self, told: &RefCell<Told>) {
        let Some(partition) = self.cluster.partition(self.node) else {
            return self.go_elsewhere();
        };
        let runtime = self.cluster.runtime(self.node);
        let told_before = told.borrow().behind;
        let asks_nobody = self.cluster.bug == Some(Bug::StaleLeaderRead)
            && partition.with_replica(Replica::leads).is_some();
        let (sender, answer) = <LocalRuntime as AsyncRuntime>::Oneshot::channel();
        let asked = async move {
            let passed = if asks_nobody { Ok(()) } else { partition.read_barrier().await };
            let _ = sender.send(passed.map(|()| partition.with_replica(Replica::committed)));
        };
        runtime.spawn(within(runtime.clone(), asked));
        match self.in_time(async { answer.await.ok() }).await {
            Some(Ok(reflects)) => {
                assert!(
                    reflects >= told_before,
                    "a linearizable read at node {} reflects {reflects}, {told_before} was told",
                    self.node
                );
                told.borrow_mut().reads += 1;
            }
            Some(Err(Refused::NotLeader(Some(leader)))) => self.node = leader,
            _ => self.go_elsewhere(),
        }
    }

    fn go_elsewhere(&mut self) {
        let ids = self.cluster.ids();
        self.node = ids[self.rng.index(ids.len())];
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Option<T>>) -> Option<T> {
        let late = async {
            self.root.sleep(ANSWER_WITHIN).await;
            None
        };
        futures_lite::future::or(answer, late).await
    }

    /// Creates the accounts that all clients use.
    pub async fn create_accounts(&mut self, told: &RefCell<Told>) {
        let Place { partition, partitions } = self.cluster.place;
        let accounts = accounts_of(partition, partitions);
        let events: Vec<_> = accounts.iter().map(walengine_net::model::Account::to_bytes).collect();
        self.send(&events, told).await;
    }

    /// Sends events until they are answered, and notes the answers.
    pub async fn send(&mut self, events: &[EventBytes], told: &RefCell<Told>) {
        let since = told.borrow().behind;
        loop {
            if let Some(outcomes) = self.ask(events.to_vec()).await {
                if let Some(newest) = outcomes.iter().filter_map(|outcome| outcome.offset).max() {
                    self.cluster.assert_durable(newest);
                }
                let mut told = told.borrow_mut();
                for (event, outcome) in events.iter().zip(outcomes) {
                    told.note(event, outcome, since);
                }
                return;
            }
            let micros = self.rng.between(1_000, AGAIN_MICROS_MAX);
            self.root.sleep(Duration::from_micros(micros)).await;
        }
    }

    async fn ask(&mut self, events: Vec<EventBytes>) -> Option<Vec<Outcome>> {
        let Some(partition) = self.cluster.partition(self.node) else {
            self.go_elsewhere();
            return None;
        };
        let runtime = self.cluster.runtime(self.node);
        let (sender, answer) = <LocalRuntime as AsyncRuntime>::Oneshot::channel();
        let asked = async move {
            let mut outcomes = Outcomes::new();
            let mut answer = partition.submit(&events, &mut outcomes).map(|_| ());
            let doubts = partition.doubts_of(&events, &outcomes);
            if answer.is_ok() && !doubts.is_empty() {
                answer = partition.settled(&doubts, &mut outcomes, ANSWER_WITHIN).await;
            }
            if answer.is_ok() {
                answer = partition.until_visible().await;
            }
            let _ = sender.send(answer.map(|()| outcomes));
        };
        runtime.spawn(within(runtime.clone(), asked));
        match self.in_time(async { answer.await.ok() }).await {
            Some(Ok(outcomes)) => Some(outcomes),
            Some(Err(Refused::NotLeader(Some(leader)))) => {
                self.node = leader;
                None
            }
            _ => {
                self.go_elsewhere();
                None
            }
        }
    }
}
