//! What must never happen in a cluster, looked at while it runs and at its end.

use std::collections::BTreeMap;

use walengine::ledger::LedgerTotals;
use walengine_net::entry::ChainHash;
use walengine_net::message::Entries;
use walengine_net::model::{AccountId, EventId};
use walengine_replication::types::NodeId;

use super::client::Told;
use super::node::Cluster;

/// Bytes of log that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// Remembers what was seen of the cluster.
#[derive(Default)]
pub struct Observer {
    /// Who led in each term.
    leaders: BTreeMap<u64, NodeId>,
    /// State at each offset that a node has applied up to: a digest.
    states: BTreeMap<u64, [u8; 32]>,
    /// Committed offset of each node when it was looked at last in its life.
    pub looks: u64,
}

impl Observer {
    /// Looks at every node that is alive.
    ///
    /// # Panics
    /// If two nodes lead in one term, two nodes differ at the same offset, or one has stopped.
    pub fn look(&mut self, cluster: &Cluster) {
        self.looks += 1;
        for id in cluster.ids() {
            let Some(partition) = cluster.partition(id) else { continue };
            let stopped = partition.stopped();
            assert!(stopped.is_none(), "node {id} has stopped: {stopped:?}");
            let term = partition.with_replica(walengine::shard::replica::Replica::leads);
            if let Some(term) = term {
                let first = *self.leaders.entry(term).or_insert(id);
                assert!(first == id, "nodes {first} and {id} both lead in term {term}");
            }
            // With nothing decided beyond it, the ledger is the committed state.
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

    /// Terms in which somebody led.
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Looks at a cluster that has come to rest: all nodes alive, nothing in flight.
    ///
    /// # Panics
    /// If logs or states differ, money was made or lost, or an answer is not in the log.
    pub async fn look_at_end(&mut self, cluster: &Cluster, told: &Told) {
        self.look(cluster);
        let mut logs: Vec<(NodeId, Vec<ChainHash>)> = Vec::new();
        for id in cluster.ids() {
            let partition = cluster.partition(id).expect("all nodes are alive");
            logs.push((id, chains(&partition).await));
            partition.with_replica(|replica| {
                let ledger = replica.ledger();
                assert!(ledger.totals().values().all(LedgerTotals::balanced), "money is lost");
                for (event, (_, outcome)) in told.outcomes() {
                    // Accounts and events have ids of their own kinds.
                    let account = ledger.decided_account(AccountId(*event));
                    let found = [ledger.decided(EventId(*event)), account];
                    assert!(
                        found.contains(&Some(*outcome)),
                        "node {id}: {event:#x} was answered {outcome:?}, found is {found:?}"
                    );
                }
            });
        }
        let (first, log) = &logs[0];
        for (id, other) in &logs[1..] {
            assert!(log == other, "the logs of nodes {first} and {id} differ at rest");
        }
    }
}

async fn chains(partition: &super::node::SimPartition) -> Vec<ChainHash> {
    let log = partition.log().log();
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
