//! The types that openraft is instantiated with. An entry is a whole batch; a node has a number.
//!
//! A term has one leader, so the term alone names a committed leader, as in the Raft paper.

use std::fmt;
use std::rc::Rc;

use openraft::EntryPayload;
use openraft::impls::leader_id_std;
use walengine_net::entry::EntryKind;
use walengine_net::model::{Offset, Timestamp};

use crate::runtime::LocalRuntime;

/// The number of a node. Never used twice, not even after a lost disk: then the node is a new one.
pub type NodeId = u64;

openraft::declare_raft_types!(
    /// What openraft is instantiated with, in production and in simulation alike.
    pub Types:
        D = Batch,
        R = (),
        NodeId = NodeId,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = LocalRuntime,
);

/// An entry as openraft knows it.
pub type Entry = openraft::alias::EntryOf<Types>;
/// What an entry holds.
pub type Payload = EntryPayload<Batch, NodeId, Member>;
/// Term and index of an entry.
pub type LogId = openraft::alias::LogIdOf<Types>;
/// A candidate or an elected leader.
pub type Vote = openraft::alias::VoteOf<Types>;
/// Voters, learners and their addresses.
pub type Membership = openraft::Membership<NodeId, Member>;
/// A membership and the entry that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<Types>;

/// The chunks of a ledger's snapshot, in order. Opaque here.
pub type SnapshotData = Rc<Vec<Vec<u8>>>;
/// A snapshot: its chunks, its last entry and the membership at that entry.
pub type RaftSnapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;
/// The last entry of a snapshot and the membership at it.
pub type RaftSnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// A member of a group: where its peers reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Address and port.
    pub peer_address: String,
    /// An operator has chosen this node to lead. At most one member is.
    pub is_chosen: bool,
}

impl Member {
    /// A member at this address, which nobody has chosen to lead.
    pub fn at(peer_address: impl Into<String>) -> Self {
        Self { peer_address: peer_address.into(), is_chosen: false }
    }
}

/// Events or records that a leader has decided together. Opaque here; the ledger knows its meaning.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// [`EntryKind::Events`] or [`EntryKind::Records`].
    pub kind: EntryKind,
    /// Term in which it was decided. It is never appended in another term.
    pub term: u64,
    /// The leader that decided it.
    pub leader_node: NodeId,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Number of records.
    pub records: u32,
    /// Log time of its first record.
    pub timestamp: Timestamp,
    /// Encoded records, the same bytes on every node.
    pub body: Rc<[u8]>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, records, base_offset, body, .. } = self;
        write!(f, "{kind:?} x {records} at {base_offset}, {} bytes", body.len())
    }
}
