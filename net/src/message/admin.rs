//! Administration: move a leadership, remove a node, leave. Each is answered with an [`AdminReply`]
//! of its own kind.

use num_enum::TryFromPrimitive;
use rkyv::with::InlineAsBox;

use super::{Message, MessageError, NO_NODE, at_most};
use crate::frame::Kind;
use crate::limits::ERROR_TEXT_BYTES_MAX;

/// Asks the leader of the connection's partition to hand its leadership to another voter. Other
/// nodes answer `NotLeader`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct TransferLeadership {
    /// The node. [`NO_NODE`] means the one that the partition prefers.
    pub to: u64,
}

/// Asks the leader of the connection's partition to remove a node's replica from the group. Other
/// nodes answer `NotLeader`. A removal that would leave no majority is refused.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct RemoveNode {
    /// The node.
    pub node: u64,
}

/// Asks the node to move its leaderships away, hand over its replicas, announce that it leaves, and
/// stop. The connection may be for any partition. Refused if that would leave a partition without a
/// majority.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Leave {
    /// The node's id, from its greeting. A node with another id refuses.
    pub node: u64,
}

/// As [`Leave`]. It was once done also where it cost a majority.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LeaveAnyway {
    /// As in [`Leave`].
    pub node: u64,
}

/// Asks the leader of the connection's partition to take a node into the group: it learns, and votes when
/// its vote is needed. Other nodes answer `NotLeader`. Only where nothing else proves that a node belongs to
/// the cluster; see the server's `--key-file`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct AdmitNode {
    /// The node.
    pub node: u64,
}

/// Result of an administrative request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum AdminState {
    /// It is done.
    Done = 0,
    /// It is under way; `ClusterStatus` shows the progress.
    Started = 1,
    /// There was nothing to do.
    Unchanged = 2,
    /// It would do harm or is impossible. Nothing was changed; the message says why.
    Refused = 3,
}

/// Answer to [`TransferLeadership`], [`RemoveNode`], [`Leave`], [`LeaveAnyway`] and [`AdmitNode`].
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct AdminReply<'a> {
    /// Number of the [`AdminState`].
    pub state: u8,
    /// Details for people; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub message: &'a str,
}

impl<'a> AdminReply<'a> {
    /// A state with its details.
    pub fn new(state: AdminState, message: &'a str) -> Self {
        Self { state: state as u8, message: super::bounded(message, ERROR_TEXT_BYTES_MAX) }
    }
}

impl Message for TransferLeadership {
    const KIND: Kind = Kind::TransferLeadership;
    type View = ArchivedTransferLeadership;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for RemoveNode {
    const KIND: Kind = Kind::RemoveNode;
    type View = ArchivedRemoveNode;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        names_a_node(view.node.to_native())
    }
}

impl Message for Leave {
    const KIND: Kind = Kind::Leave;
    type View = ArchivedLeave;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        names_a_node(view.node.to_native())
    }
}

impl Message for LeaveAnyway {
    const KIND: Kind = Kind::LeaveAnyway;
    type View = ArchivedLeaveAnyway;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        names_a_node(view.node.to_native())
    }
}

impl Message for AdmitNode {
    const KIND: Kind = Kind::AdmitNode;
    type View = ArchivedAdmitNode;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        names_a_node(view.node.to_native())
    }
}

impl Message for AdminReply<'_> {
    const KIND: Kind = Kind::TransferLeadershipReply;
    type View = ArchivedAdminReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the message", view.message.len(), ERROR_TEXT_BYTES_MAX)?;
        match AdminState::try_from(view.state) {
            Ok(_) => Ok(()),
            Err(_) => Err(MessageError::Contradiction("an answer in no such state")),
        }
    }
}

fn names_a_node(node: u64) -> Result<(), MessageError> {
    if node == NO_NODE {
        return Err(MessageError::Contradiction("the request names no node"));
    }
    Ok(())
}

impl ArchivedTransferLeadership {
    /// The node that is to lead. `None` means the one that the partition prefers.
    pub fn to(&self) -> Option<u64> {
        Some(self.to.to_native()).filter(|&node| node != NO_NODE)
    }
}

impl ArchivedAdminReply<'_> {
    /// The state. An unknown number counts as refused, but opening does not let it through.
    pub fn state(&self) -> AdminState {
        AdminState::try_from(self.state).unwrap_or(AdminState::Refused)
    }
}
