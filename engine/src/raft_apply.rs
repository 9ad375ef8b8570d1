//! A replica of a partition's ledger as openraft's state machine. Lives on the partition's shard;
//! one of two places that implement openraft's storage, beside [`crate::raft_log`].
//!
//! State is in memory: after a restart openraft applies the log again as far as it is committed. A
//! snapshot is the ledger's own stream of chunks and the membership at the same entry.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use futures_lite::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use walengine_replication::types::{
    LogId, NodeId, Payload, RaftSnapshot, RaftSnapshotMeta, SnapshotData, StoredMembership, Types,
};

use crate::ledger::Ledger;
use crate::local::Notify;
use crate::shard::replica::Replica;

/// Bytes of one chunk of a snapshot.
const CHUNK_BYTES: usize = 1 << 20;

/// See the module. Clones are the same state machine.
#[derive(Clone)]
pub struct RaftApply {
    /// The ledger, shared with the shard, which decides on it while it leads.
    replica: Rc<RefCell<Replica>>,
    state: Rc<RefCell<State>>,
    /// Wakes whenever something was applied, or this replica has stopped.
    changed: Notify,
}

#[derive(Default)]
struct State {
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Who was a member once and is none any more; follows from the log.
    removed: BTreeSet<NodeId>,
    newest: Option<RaftSnapshot>,
    /// Set once: this replica must not serve any more.
    stopped: Option<String>,
}

impl RaftApply {
    /// Applies to `replica`, which is empty.
    pub fn new(replica: Rc<RefCell<Replica>>) -> Self {
        Self { replica, state: Rc::default(), changed: Notify::new() }
    }

    /// Applies to `replica`, which holds the state of a snapshot that stands for `meta`.
    pub fn restored(replica: Rc<RefCell<Replica>>, meta: RaftSnapshotMeta) -> Self {
        let RaftSnapshotMeta { last_log_id: applied, last_membership: membership } = meta;
        let state = State { applied, membership, ..State::default() };
        Self { replica, state: Rc::new(RefCell::new(state)), changed: Notify::new() }
    }

    /// What it applies to.
    pub fn replica(&self) -> &Rc<RefCell<Replica>> {
        &self.replica
    }

    /// Wakes whenever something was applied, or this replica has stopped.
    pub fn changed(&self) -> Notify {
        self.changed.clone()
    }

    /// Newest entry that was applied.
    pub fn applied(&self) -> Option<LogId> {
        self.state.borrow().applied
    }

    /// Nodes that were members once and are none any more, as far as was applied.
    pub fn removed(&self) -> BTreeSet<NodeId> {
        self.state.borrow().removed.clone()
    }

    /// Why this replica has stopped serving, if it has.
    pub fn stopped(&self) -> Option<String> {
        self.state.borrow().stopped.clone()
    }

    fn apply_one(&self, log_id: LogId, payload: &Payload) -> io::Result<()> {
        if let EntryPayload::Normal(batch) = payload
            && let Err(error) = self.replica.borrow_mut().apply(batch)
        {
            let why = format!("entry {log_id}: {error}");
            self.state.borrow_mut().stopped = Some(why.clone());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut state = self.state.borrow_mut();
        if let EntryPayload::Membership(membership) = payload {
            let before: Vec<_> = state.membership.nodes().map(|(node, _)| *node).collect();
            state.removed.extend(before);
            for (node, _) in membership.nodes() {
                state.removed.remove(node);
            }
            state.membership = StoredMembership::new(Some(log_id), membership.clone());
        }
        state.applied = Some(log_id);
        Ok(())
    }

    fn snapshot(&self) -> RaftSnapshot {
        let mut replica = self.replica.borrow_mut();
        let mut state = self.state.borrow_mut();
        let chunks = replica.committed_chunks(CHUNK_BYTES);
        let meta = RaftSnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        };
        let snapshot = RaftSnapshot { meta, snapshot: Rc::new(chunks) };
        state.newest = Some(snapshot.clone());
        snapshot
    }
}

impl RaftSnapshotBuilder<Types> for RaftApply {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        Ok(self.snapshot())
    }
}

impl RaftStateMachine<Types> for RaftApply {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.state.borrow();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let applied = self.apply_one(entry.log_id, &entry.payload);
            self.changed.notify_all();
            applied?;
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let (partition, partitions) = {
            let replica = self.replica.borrow();
            (replica.ledger().partition(), replica.ledger().partitions())
        };
        let ledger = Ledger::restore(partition, partitions, snapshot.iter());
        let ledger = ledger.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.replica.borrow_mut().replace(ledger);
        let mut state = self.state.borrow_mut();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.newest = Some(RaftSnapshot { meta: meta.clone(), snapshot });
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        Ok(self.state.borrow().newest.clone())
    }
}
