//! Requests of operators: move a leadership, remove a node, leave. Each is answered with an
//! [`AdminReply`] of its own kind.

use num_enum::TryFromPrimitive;
use rkyv::with::InlineAsBox;

use super::{Message, MessageError, NO_NODE, at_most};
use crate::frame::Kind;
use crate::limits::ERROR_TEXT_BYTES_MAX;

/// Asks the leader of the connection's partition to hand its leadership to another voter. Other
/// nodes answer `NotLeader`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct TransferLeadership {
    /// The node; [`NO_NODE`]: the one that the partition prefers.
    pub to: u64,
}

/// Asks the leader of the connection's partition to take a node's replica out of the group. Other
/// nodes answer `NotLeader`. A removal that would leave no majority is refused.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct RemoveNode {
    /// The node.
    pub node: u64,
}

/// Asks the node to move its leaderships away, hand over its replicas, say goodbye and end.
/// Whatever partition the connection is for.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Leave {
    /// The node that is meant, as it stood in the greeting: another one refuses.
    pub node: u64,
}

/// What came of an operator's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum AdminState {
    /// It is so now.
    Done = 0,
    /// It is under way; `ClusterStatus` shows how far.
    Started = 1,
    /// It was so already.
    Unchanged = 2,
    /// It would do harm, or can't be. Nothing was changed; the message says why.
    Refused = 3,
}

/// Answer to [`TransferLeadership`], [`RemoveNode`] and [`Leave`].
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct AdminReply<'a> {
    /// Number of the [`AdminState`].
    pub state: u8,
    /// The same in words, for people; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub message: &'a str,
}

impl<'a> AdminReply<'a> {
    /// A state, and what to say about it.
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
    /// The node that is to lead; `None`: the one that the partition prefers.
    pub fn to(&self) -> Option<u64> {
        Some(self.to.to_native()).filter(|&node| node != NO_NODE)
    }
}

impl ArchivedAdminReply<'_> {
    /// What came of it. What is not known counts as refused; opening has refused it before.
    pub fn state(&self) -> AdminState {
        AdminState::try_from(self.state).unwrap_or(AdminState::Refused)
    }
}
