//! Checks what must never happen in a cluster, while it runs and at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use walengine::ids::key::{Key, Space};
use walengine::ledger::LedgerTotals;
use walengine::partition::replica::Replica;
use walengine::runtime::Runtime;
use walengine_net::entry::ChainHash;
use walengine_net::message::Entries;
use walengine_replication::types::NodeId;

use super::client::Told;
use super::node::Cluster;

/// Bytes of log that are read at a time.
const READ_BYTES: usize = 64 << 10;
/// States are compared at one look in so many: a digest walks the whole state.
const DIGEST_EVERY: u64 = 8;
/// A node whose log has failed must have stepped down by then.
const STEPS_DOWN_WITHIN: Duration = Duration::from_secs(1);

/// What was seen of the cluster so far.
#[derive(Default)]
pub struct Observer {
    /// Who led in each term.
    leaders: BTreeMap<u64, NodeId>,
    /// State at each offset that a node has applied up to: a digest.
    states: BTreeMap<u64, [u8; 32]>,
    /// When a node was first seen with a failed log since it last stood still.
    failed: BTreeMap<NodeId, Duration>,
    /// Nodes whose disk has no room for another segment.
    full: BTreeSet<NodeId>,
    looks: u64,
    /// How often a log was found to have failed.
    pub failures: u64,
    /// How often a log was found without room for another segment.
    pub stalls: u64,
}

impl Observer {
    /// Looks at every node that is alive.
    ///
    /// # Panics
    /// If two nodes lead in one term, two nodes differ at the same offset or in the same entry, what
    /// is committed has changed, one has stopped, or one with a failed disk still leads.
    pub fn look(&mut self, cluster: &Cluster) {
        self.looks += 1;
        cluster.look_at_media();
        for id in cluster.ids() {
            if cluster.is_set_back(id) {
                continue;
            }
            self.look_at_failure(cluster, id);
            let Some(partition) = cluster.partition(id) else { continue };
            let stopped = partition.commit().machine().stopped();
            assert!(stopped.is_none(), "node {id} has stopped: {stopped:?}");
            if !partition.log().no_room() {
                self.full.remove(&id);
            } else if self.full.insert(id) {
                self.stalls += 1;
            }
            let (lies, why) = partition.commit().dishonest_requests();
            let is_honest = cluster.liar.get().is_none() && cluster.bug.is_none();
            assert!(!is_honest || lies == 0, "node {id} takes an honest one for a liar: {why:?}");
            let term = partition.with_replica(Replica::leads);
            if let Some(term) = term {
                let first = *self.leaders.entry(term).or_insert(id);
                assert!(first == id, "nodes {first} and {id} both lead in term {term}");
            }
            cluster.media.borrow_mut().note_applied(id, partition.commit().applied());
            let totals = partition.with_replica(|replica| replica.ledger().totals());
            assert!(totals.values().all(LedgerTotals::balanced), "node {id} has lost money");
            if !self.looks.is_multiple_of(DIGEST_EVERY) {
                continue;
            }
            // If nothing is decided beyond it, the ledger is the committed state.
            let state = partition.with_replica(|replica| {
                let offset = replica.committed();
                (replica.ledger().next_offset() == offset)
                    .then(|| (offset.0, replica.ledger().digest()))
            });
            if let Some((offset, digest)) = state {
                let first = *self.states.entry(offset).or_insert(digest);
                assert!(first == digest, "node {id} has another state at offset {offset}");
            }
        }
    }

    /// A node whose log has failed must step down.
    fn look_at_failure(&mut self, cluster: &Cluster, id: NodeId) {
        let runtime = cluster.runtime(id);
        if !cluster.has_failed(id) || runtime.paused() {
            self.failed.remove(&id);
            return;
        }
        let now = runtime.elapsed();
        self.failures += u64::from(!self.failed.contains_key(&id));
        let since = *self.failed.entry(id).or_insert(now);
        let leads = cluster.partition(id).and_then(|one| one.with_replica(Replica::leads));
        assert!(
            leads.is_none() || now < since + STEPS_DOWN_WITHIN,
            "node {id} leads in term {leads:?} although its log has failed"
        );
    }

    /// Terms in which somebody led.
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Looks at a cluster at rest: nothing in flight, and all nodes alive but those whose log the
    /// test has damaged.
    ///
    /// # Panics
    /// If logs or states differ, money was made or lost, or an answer is not in the log.
    pub async fn look_at_end(&mut self, cluster: &Cluster, told: &Told) {
        self.looks = DIGEST_EVERY - 1;
        self.look(cluster);
        let mut logs: Vec<(NodeId, Vec<ChainHash>)> = Vec::new();
        for id in cluster.ids_in() {
            let partition = cluster.partition(id).expect("all nodes are alive");
            logs.push((id, chains(&partition).await));
            // Accounts and events have ids of their own kinds.
            let spaces = [Space::Account, Space::Event];
            let keys: Vec<Key> = told
                .outcomes()
                .flat_map(|(id, _)| spaces.map(|space| Key::new(*id, space)))
                .collect();
            let found = partition.decided(&keys).await.expect("a healthy disk");
            for ((event, (_, outcome)), found) in told.outcomes().zip(found.chunks(2)) {
                assert!(
                    found.contains(&Some(*outcome)),
                    "node {id}: {event:#x} was answered {outcome:?}, found is {found:?}"
                );
            }
        }
        let (first, log) = &logs[0];
        for (id, other) in &logs[1..] {
            assert!(log == other, "the logs of nodes {first} and {id} differ at rest");
        }
    }
}

async fn chains(partition: &super::node::SimPartition) -> Vec<ChainHash> {
    let log = partition.log();
    let mut chains = Vec::new();
    let mut next = log.first_index();
    while next <= log.last().index {
        let bytes = log.read(next, READ_BYTES).await.expect("a healthy log");
        for entry in Entries::new(&bytes) {
            let (header, _) = entry.expect("read gives checked entries");
            chains.push(header.chain);
            next += 1;
        }
    }
    chains
}
