//! A replica of a partition's ledger as openraft's state machine. Lives on the partition's shard;
//! one of two places that implement openraft's storage, beside [`super::raft_log`].
//!
//! State is in memory: after a restart it is that of the newest snapshot on disk
//! ([`crate::partition::snapshots`]), and openraft applies the log behind it as far as it is committed.
//! What openraft calls a snapshot is the ledger's own stream of chunks and the membership at the
//! same entry. No peer sends or takes one: a new replica copies the log. openraft's trait and its
//! conformance suite ask for them all the same.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use futures_lite::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, Raft, RaftSnapshotBuilder};
use walengine_net::model::Offset;
use walengine_replication::types::{
    LogId, NodeId, Payload, RaftSnapshot, RaftSnapshotMeta, SnapshotData, StoredMembership, Types,
};

use super::members::Members;
use crate::ids::key::Key;
use crate::ledger::{Fact, Ledger};
use crate::limits::RAFT_SNAPSHOT_CHUNK_BYTES;
use crate::local::Notify;
use crate::partition::older_ids::Wanted;
use crate::partition::replica::Replica;

/// A group's handle to consensus.
pub type GroupRaft = Raft<Types, RaftApply>;

/// See the module. Clones are the same state machine.
#[derive(Clone)]
pub struct RaftApply {
    /// The ledger, shared with the shard, which decides on it while it leads.
    replica: Rc<RefCell<Replica>>,
    state: Rc<RefCell<State>>,
    /// Looks up ids that are not in memory; an empty log has none.
    look_up: Option<Rc<LookUp>>,
    /// Wakes whenever something was applied, or this replica has stopped.
    changed: Notify,
}

/// Looks ids up.
pub type LookUp =
    dyn Fn(Vec<Wanted>) -> Pin<Box<dyn Future<Output = io::Result<Vec<(Key, Fact)>>>>>;

/// A point of the log that is applied, and the members there.
pub struct AppliedPoint {
    /// The entry.
    pub applied: LogId,
    /// The members as of it.
    pub members: Members,
}

#[derive(Default)]
struct State {
    applied: Option<LogId>,
    /// Bytes of the bodies that were applied since the start.
    applied_bytes: u64,
    members: Members,
    /// Somebody wants to know which entry this offset follows.
    awaited: Option<Offset>,
    reached: Option<AppliedPoint>,
    newest: Option<RaftSnapshot>,
    /// Set once: this replica must not serve any more.
    stopped: Option<String>,
}

impl State {
    fn look(&mut self, committed: Offset) {
        if let Some(applied) = self.applied.filter(|_| self.awaited == Some(committed)) {
            self.awaited = None;
            self.reached = Some(AppliedPoint { applied, members: self.members.clone() });
        }
    }
}

impl RaftApply {
    /// Applies to `replica`, which is empty.
    pub fn new(replica: Rc<RefCell<Replica>>) -> Self {
        Self { replica, state: Rc::default(), look_up: None, changed: Notify::new() }
    }

    /// Applies to `replica`, which holds the state behind the entry `applied`, with its members.
    pub fn restored(
        replica: Rc<RefCell<Replica>>,
        applied: Option<LogId>,
        members: Members,
    ) -> Self {
        let state = State { applied, members, ..State::default() };
        let state = Rc::new(RefCell::new(state));
        Self { replica, state, look_up: None, changed: Notify::new() }
    }

    /// The same, and ids that are not in memory are looked up by this.
    #[must_use]
    pub fn looking_up_by(self, look_up: Rc<LookUp>) -> Self {
        Self { look_up: Some(look_up), ..self }
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
        self.state.borrow().members.removed.clone()
    }

    /// Bytes of the bodies that were applied since the start.
    pub fn applied_bytes(&self) -> u64 {
        self.state.borrow().applied_bytes
    }

    /// From now on [`Self::reached`] waits for the entry that `offset` follows: the newest one, if
    /// it is applied already.
    pub fn await_offset(&self, offset: Offset) {
        let mut state = self.state.borrow_mut();
        (state.awaited, state.reached) = (Some(offset), None);
        state.look(self.replica.borrow().committed());
    }

    /// The entry of [`Self::await_offset`], once, when it is applied.
    pub fn reached(&self) -> Option<AppliedPoint> {
        self.state.borrow_mut().reached.take()
    }

    /// This replica must not serve any more.
    pub fn stop(&self, why: String) {
        self.state.borrow_mut().stopped.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Why this replica has stopped serving, if it has.
    pub fn stopped(&self) -> Option<String> {
        self.state.borrow().stopped.clone()
    }

    /// Looks up what this batch's events need, until nothing is missing.
    async fn look_up(&self, payload: &Payload) -> io::Result<()> {
        let (EntryPayload::Normal(batch), Some(look_up)) = (payload, &self.look_up) else {
            return Ok(());
        };
        loop {
            let (version, unknown) = {
                let mut replica = self.replica.borrow_mut();
                (replica.ledger().facts_version(), replica.unknown(batch))
            };
            if unknown.is_empty() {
                return Ok(());
            }
            let found = look_up(unknown).await?;
            self.replica.borrow_mut().learn(version, found);
        }
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
        match payload {
            EntryPayload::Membership(membership) => state.members.change(log_id, membership),
            EntryPayload::Normal(batch) => state.applied_bytes += batch.body.len() as u64,
            EntryPayload::Blank => {}
        }
        state.applied = Some(log_id);
        state.look(self.replica.borrow().committed());
        Ok(())
    }

    fn snapshot(&self) -> RaftSnapshot {
        let mut replica = self.replica.borrow_mut();
        let mut state = self.state.borrow_mut();
        let chunks = replica.committed_chunks(RAFT_SNAPSHOT_CHUNK_BYTES);
        let meta = RaftSnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.members.stored.clone(),
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
        Ok((state.applied, state.members.stored.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.look_up(&entry.payload).await?;
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
        let (partition, partitions, next_offset) = {
            let ledger = self.replica.borrow();
            let ledger = ledger.ledger();
            (ledger.partition(), ledger.partitions(), ledger.next_offset())
        };
        // Nobody sends one. It would replace what this replica has derived itself, and an import that is
        // under way would be forgotten.
        if self.applied().is_some() || next_offset > Offset(0) {
            let why = "a snapshot is only installed into an empty replica";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let ledger = Ledger::restore(partition, partitions, snapshot.iter());
        let ledger = ledger.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.replica.borrow_mut().replace(ledger);
        let mut state = self.state.borrow_mut();
        state.applied = meta.last_log_id;
        state.members.stored = meta.last_membership.clone();
        state.newest = Some(RaftSnapshot { meta: meta.clone(), snapshot });
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        Ok(self.state.borrow().newest.clone())
    }
}
