//! Ways between the partitions' replicas of a node, on which letters are lost, doubled, delayed and overtake
//! each other; and the way from there to the node that leads.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use walengine::across::{self, Forward, Letter, Undelivered, run_courier, send, take_letters};
use walengine::runtime::Runtime;
use walengine_net::model::PartitionId;
use walengine_replication::peer::{Carried, Words};
use walengine_replication::runtime::within;
use walengine_replication::types::NodeId;

use crate::cluster::{Cluster, Opened, SimPartition};
use crate::sim::{Rng, SimRuntime};

/// Letters that wait for a replica.
const LETTERS_MAX: usize = 8;
/// A letter that is lost is missed after this, as one behind a dead connection.
const LOST_FOR: Duration = Duration::from_millis(600);

/// How bad the ways are.
#[derive(Clone, Copy, Debug)]
pub struct PostFaults {
    /// Longest way of a letter and of its answer, in microseconds.
    pub delay_micros_max: u64,
    /// Of 100: letters, and answers, that are lost.
    pub lost_percent: u64,
    /// Of 100: letters that arrive twice.
    pub doubled_percent: u64,
}

impl PostFaults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { delay_micros_max: 100, lost_percent: 0, doubled_percent: 0 };
    /// Everything does.
    pub const BAD: Self = Self { delay_micros_max: 60_000, lost_percent: 8, doubled_percent: 15 };
}

/// See the module.
pub struct Post {
    root: SimRuntime,
    rng: RefCell<Rng>,
    faults: Cell<PostFaults>,
    clusters: RefCell<BTreeMap<PartitionId, Rc<Cluster>>>,
    /// What comes for a replica on a node.
    inboxes: RefCell<BTreeMap<(PartitionId, NodeId), flume::Sender<Letter>>>,
    /// Letters that were lost, and that arrived twice.
    pub mishaps: Cell<(u64, u64)>,
}

impl Post {
    /// Between partitions that are yet to be told of.
    pub fn new(root: &SimRuntime, rng: Rng) -> Rc<Self> {
        Rc::new(Self {
            root: root.clone(),
            rng: RefCell::new(rng),
            faults: Cell::new(PostFaults::BAD),
            clusters: RefCell::default(),
            inboxes: RefCell::default(),
            mishaps: Cell::default(),
        })
    }

    /// How bad the ways are from now on.
    pub fn set_faults(&self, faults: PostFaults) {
        self.faults.set(faults);
    }

    /// A partition has formed.
    pub fn connect(&self, cluster: &Rc<Cluster>) {
        self.clusters.borrow_mut().insert(cluster.place.partition, cluster.clone());
    }

    /// Ends the ways. The partitions hold the post, and it holds them.
    pub fn close(&self) {
        self.inboxes.borrow_mut().clear();
        let clusters = std::mem::take(&mut *self.clusters.borrow_mut());
        drop(clusters); // after the borrow
    }

    /// What each replica of a partition does when it is started: as `shard/run.rs` has it on a real node.
    pub fn opened(self: &Rc<Self>, from: PartitionId, partitions: u16) -> Opened {
        let post = self.clone();
        Box::new(move |node, partition: &SimPartition| {
            let (inbox, letters) = flume::bounded(LETTERS_MAX);
            post.inboxes.borrow_mut().insert((from, node), inbox);
            let forward = ToReplicas { post: post.clone(), partition: from, node };
            let to_leader = forward.clone();
            partition.spawn(|partition| take_letters(partition, letters, to_leader));
            for to in (0..partitions).map(PartitionId).filter(|to| *to != from) {
                let ((way, letters), forward) = (flume::bounded(1), forward.clone());
                partition.spawn(|partition| run_courier(partition, to, way, forward));
                let (post, root) = (post.clone(), post.root.clone());
                let carried = async move {
                    while let Ok(letter) = letters.recv_async().await {
                        let (post, root) = (post.clone(), post.root.clone());
                        root.spawn(within(root.clone(), post.deliver((to, node), letter)));
                    }
                };
                root.spawn(within(root.clone(), carried));
            }
        })
    }

    fn chance(&self, percent: u64) -> bool {
        self.rng.borrow_mut().percent(percent)
    }

    async fn delay(&self) {
        let micros = self.rng.borrow_mut().below(self.faults.get().delay_micros_max);
        self.root.sleep(Duration::from_micros(micros)).await;
    }

    /// Whether a letter, or its answer, gets there.
    async fn passes(&self) -> bool {
        self.delay().await;
        if !self.chance(self.faults.get().lost_percent) {
            return true;
        }
        let (lost, doubled) = self.mishaps.get();
        self.mishaps.set((lost + 1, doubled));
        self.root.sleep(LOST_FOR).await;
        false
    }

    async fn deliver(self: Rc<Self>, to: (PartitionId, NodeId), letter: Letter) {
        let Letter { carried, answer } = letter;
        if self.chance(self.faults.get().doubled_percent) {
            let (lost, doubled) = self.mishaps.get();
            self.mishaps.set((lost, doubled + 1));
            let (post, carried) = (self.clone(), carried.clone());
            let again = async move {
                post.delay().await;
                let _ = post.put(to, carried).await;
            };
            self.root.spawn(within(self.root.clone(), again));
        }
        if !self.passes().await {
            return;
        }
        let Some(words) = self.put(to, carried).await else { return };
        if self.passes().await {
            let _ = answer.try_send(words); // the courier may have given up
        }
    }

    /// Puts a letter in and waits for what comes of it. `None` if the node is dead.
    async fn put(
        &self,
        to: (PartitionId, NodeId),
        carried: Carried,
    ) -> Option<Result<Words, Undelivered>> {
        let inbox = self.inboxes.borrow().get(&to).cloned()?;
        Some(send(&inbox, carried).await)
    }
}

/// From a replica to those on other nodes.
#[derive(Clone)]
struct ToReplicas {
    post: Rc<Post>,
    partition: PartitionId,
    node: NodeId,
}

impl Forward for ToReplicas {
    fn others(&self) -> Vec<NodeId> {
        let clusters = self.post.clusters.borrow();
        let ids = clusters.get(&self.partition).map(|cluster| cluster.ids()).unwrap_or_default();
        ids.into_iter().filter(|id| *id != self.node).collect()
    }

    async fn forward(&self, node: NodeId, carried: Carried) -> Result<Words, Undelivered> {
        let cluster = self.post.clusters.borrow().get(&self.partition).cloned();
        let cluster = cluster.ok_or_else(|| Undelivered("it has not formed".to_owned()))?;
        let (carried, post) = (Rc::new(carried), self.post.clone());
        let asked = cluster.net.ask(self.node, node, move |partition| {
            let (carried, post) = (carried.clone(), post.clone());
            async move {
                if carried.to == partition.id().partition {
                    return across::take(&partition, &carried).await;
                }
                let handed = post.put((carried.to, node), (*carried).clone()).await;
                handed.unwrap_or_else(|| Err(Undelivered("it is not there".to_owned())))
            }
        });
        asked.await.map_err(|error| Undelivered(error.to_string()))?
    }
}
