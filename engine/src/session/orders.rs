//! Orders of operators: written down, carried out, answered. Lives on the connection's core; not `Send`.

use std::sync::atomic::Ordering;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{AdminReply, AdminState};

use super::admin::{GroupOrder, Obeyed, Operated};
use super::replies::Replies;
use crate::audit::{Begun, Order, Outcome, Untraced};
use crate::caller::Caller;
use crate::partition::commit::Commit;

/// Carries out what concerns the group of the connection's partition.
pub async fn group<C: Operated>(
    replies: &Replies<C>,
    caller: &Caller,
    kind: Kind,
    head: FrameHead,
    order: GroupOrder,
) {
    let partition = replies.partition.id().partition.0;
    let traced = match order {
        GroupOrder::Transfer(to) => Order::new("transfer_leadership").with("to", to),
        GroupOrder::Remove(node) => Order::new("remove_node").with("node", node),
        GroupOrder::Admit(node) => Order::new("admit_node").with("node", node),
    };
    let Some(begun) = begin(replies, caller, kind, head, traced.with("partition", partition)).await
    else {
        return;
    };
    match C::obey(&replies.partition, order, &replies.node.state.acquaintances).await {
        Ok(obeyed) => answer(replies, begun, kind, head, &obeyed),
        Err(refused) => {
            replies.put_refused(head, &refused);
            begun.end(Outcome::Refused, &format!("{refused:?}"));
        }
    }
}

/// Has this node leave its cluster. Whoever asks, and however: no partition loses its majority by it.
pub async fn leave<C: Commit>(
    replies: &Replies<C>,
    caller: &Caller,
    kind: Kind,
    head: FrameHead,
    node: u64,
) {
    let name = if kind == Kind::LeaveAnywayReply { "leave_anyway" } else { "leave" };
    let order = Order::new(name).with("node", node);
    let Some(begun) = begin(replies, caller, kind, head, order).await else { return };
    answer(replies, begun, kind, head, &left(replies, node));
}

fn left<C: Commit>(replies: &Replies<C>, node: u64) -> Obeyed {
    let state = &*replies.node.state;
    let me = state.superblock.node;
    if node != me {
        return (AdminState::Refused, format!("this is node {me}: ask the one that shall leave"));
    }
    if !state.superblock.replicated {
        return (AdminState::Refused, "this node serves alone: stop it with SIGTERM".to_owned());
    }
    if let Some(why) = state.must_stay() {
        return (AdminState::Refused, why);
    }
    if state.is_leaving.swap(true, Ordering::Relaxed) {
        return (AdminState::Unchanged, "it is leaving already".to_owned());
    }
    let message = "it hands over what it leads, and ends when its groups go on without it";
    (AdminState::Started, message.to_owned())
}

/// Writes an order down; `None` if that failed, which was answered.
async fn begin<C: Commit>(
    replies: &Replies<C>,
    caller: &Caller,
    kind: Kind,
    head: FrameHead,
    order: Order,
) -> Option<Begun> {
    let begun = replies.node.state.audit.begin(replies.partition.runtime(), caller, order).await;
    begun.map_err(|untraced| refuse(replies, kind, head, &untraced)).ok()
}

fn refuse<C: Commit>(replies: &Replies<C>, kind: Kind, head: FrameHead, untraced: &Untraced) {
    let message = format!("{untraced}; nothing was done");
    tracing::error!("an order was refused: {message}");
    replies.outbox.put(kind, head, &AdminReply::new(AdminState::Refused, &message));
}

fn answer<C: Commit>(
    replies: &Replies<C>,
    begun: Begun,
    kind: Kind,
    head: FrameHead,
    (state, message): &Obeyed,
) {
    replies.outbox.put(kind, head, &AdminReply::new(*state, message));
    let outcome = match state {
        AdminState::Done => Outcome::Done,
        AdminState::Started => Outcome::Started,
        AdminState::Unchanged => Outcome::Unchanged,
        AdminState::Refused => Outcome::Refused,
    };
    begun.end(outcome, message);
}
